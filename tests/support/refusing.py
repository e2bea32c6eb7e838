"""The way to a broker that refuses the first write to every partition, as one does that has just come back.

A broker tells who leads a partition a moment before it leads it. What arrives in between is refused
(NOT_LEADER_OR_FOLLOWER), what comes next is taken: of a producer that it does not know in this partition a
broker takes any sequence number (KAFKA-15591, in every release up to 4.3). The moment is too short to be met on
purpose, so here the first write is kept until the next one has come too, or for `HELD` seconds.
"""

import asyncio
import struct
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager, suppress

from infra.embedded.ports import HOST

HELD = 0.3  # seconds for a second write to come: it comes within milliseconds, if it comes
_ACCEPTED = 0.05  # seconds for connections that were accepted before the end to become lines, to be ended too
_PRODUCE, _API_VERSIONS = 0, 18  # the protocol guide's API keys
_VERSION = 7  # of Produce, the newest here: without tagged fields and topic ids
_NOT_LEADER = 6
_Writer = asyncio.StreamWriter


@asynccontextmanager
async def refusing(servers: str) -> AsyncGenerator[str]:
    """Bootstrap servers that lead to those of one broker on the loopback address, through here."""
    real = int(servers.rpartition(":")[2])
    lines: set[asyncio.Task[None]] = set()

    async def connected(reader: asyncio.StreamReader, writer: _Writer) -> None:
        task = asyncio.current_task()
        assert task is not None  # asyncio runs this in one
        lines.add(task)
        with suppress(asyncio.CancelledError):  # below, at the end: Python 3.11 tells of it as of a fault
            await _Line(real, port, reader, writer).run()
        lines.discard(task)

    server = await asyncio.start_server(connected, HOST, 0)
    port: int = server.sockets[0].getsockname()[1]
    try:
        yield f"{HOST}:{port}"
    finally:
        server.close()
        await asyncio.sleep(_ACCEPTED)
        for task in (ending := set(lines)):
            task.cancel()
        await asyncio.gather(*ending)


class _Line:
    """One connection of a client, and its own to the broker."""

    def __init__(self, real: int, port: int, client: asyncio.StreamReader, answers: _Writer) -> None:
        self._real, self._port = real, port
        self._client, self._answers = client, answers
        self._versions: set[int] = set()  # correlation ids of requests for the versions
        self._kept: tuple[int, str, int] | None = None  # the write that is about to be refused
        self._refused: set[tuple[str, int]] = set()

    async def run(self) -> None:
        """Until one side hangs up."""
        try:
            broker, requests = await asyncio.open_connection(HOST, self._real)
            try:
                await self._between(broker, requests)
            finally:
                await _hang_up(requests)
        finally:
            await _hang_up(self._answers)

    async def _between(self, broker: asyncio.StreamReader, requests: _Writer) -> None:
        ways = {
            asyncio.create_task(self._forth(requests)),
            asyncio.create_task(self._back(broker)),
        }
        try:
            await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for way in ways:
                way.cancel()
            await asyncio.gather(*ways, return_exceptions=True)

    async def _forth(self, requests: _Writer) -> None:
        following = asyncio.create_task(_frame(self._client))
        try:
            while True:
                wait = None if self._kept is None else HELD
                await asyncio.wait({following}, timeout=wait)
                self._refuse()
                if following.done():
                    frame = following.result()
                    following = asyncio.create_task(_frame(self._client))
                    if not self._keeps(frame):
                        requests.write(_sized(frame))
        finally:
            following.cancel()
            await asyncio.gather(following, return_exceptions=True)

    async def _back(self, broker: asyncio.StreamReader) -> None:
        # The broker names itself in what it says of the cluster; same length, so nothing else moves.
        there, here = (HOST.encode() + struct.pack(">i", port) for port in (self._real, self._port))
        while True:
            frame = await _frame(broker)
            (number,) = struct.unpack_from(">i", frame)
            if number in self._versions:
                self._versions.discard(number)
                frame = _limited(frame)
            self._answers.write(_sized(frame.replace(there, here)))

    def _keeps(self, frame: bytes) -> bool:
        """Whether the request is the first write to a partition, which is kept to be refused."""
        key, _, number = struct.unpack_from(">hhi", frame)
        if key == _API_VERSIONS:
            self._versions.add(number)
        if key != _PRODUCE:
            return False
        topic, partition = _place(frame)
        if (topic, partition) in self._refused:
            return False
        self._refused.add((topic, partition))
        self._kept = (number, topic, partition)
        return True

    def _refuse(self) -> None:
        if self._kept is None:
            return
        (number, topic, partition), self._kept = self._kept, None
        name = topic.encode()
        answer = struct.pack(f">iih{len(name)}si", number, 1, len(name), name, 1)
        answer += struct.pack(">ihqqqi", partition, _NOT_LEADER, -1, -1, -1, 0)
        self._answers.write(_sized(answer))


async def _hang_up(writer: _Writer) -> None:
    writer.transport.abort()  # a close would wait until all is sent, to one who reads no more
    with suppress(OSError):
        await writer.wait_closed()


async def _frame(reader: asyncio.StreamReader) -> bytes:
    (size,) = struct.unpack(">i", await reader.readexactly(4))
    return await reader.readexactly(size)


def _sized(frame: bytes) -> bytes:
    return struct.pack(">i", len(frame)) + frame


def _place(frame: bytes) -> tuple[str, int]:
    """Topic and partition of a request to write; librdkafka names one in each."""
    at = 8 + 2 + struct.unpack_from(">h", frame, 8)[0]  # behind the head and the client's name
    at += 2 + max(0, struct.unpack_from(">h", frame, at)[0])  # the transactional id
    at += 2 + 4 + 4  # acks, timeout, how many topics
    (length,) = struct.unpack_from(">h", frame, at)
    topic = frame[at + 2 : at + 2 + length].decode()
    (partition,) = struct.unpack_from(">i", frame, at + 2 + length + 4)
    return topic, partition


def _limited(frame: bytes) -> bytes:
    """The broker's versions, without those of Produce that are not spoken here."""
    start = 4 + 2 + 1  # correlation id, error, how many (below 128: one byte)
    for at in range(start, len(frame) - 6, 7):  # key, least, most, no tags
        key, least, most = struct.unpack_from(">hhh", frame, at)
        if key == _PRODUCE:
            return frame[:at] + struct.pack(">hhh", key, least, min(most, _VERSION)) + frame[at + 6 :]
    raise AssertionError("the broker names no version of Produce")
