"""Answers of one frame are read past jh2, everything else by it: each request gets its own answer, in whatever pieces."""

import asyncio
import struct
from dataclasses import dataclass, field
from typing import Any, Literal

import pytest
from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.errors import ErrorCodes
from h2.events import DataReceived
from hypothesis import given, settings
from hypothesis import strategies as st

from connectors._apns_h2 import Answer, Connection, Lost, Unprocessed

REQUEST = [(":method", "POST"), (":scheme", "https"), (":authority", "h"), (":path", "/3/device/ab")]
Way = Literal["whole", "body", "empty body", "trailers", "long", "reset", "refused", "late"]
WAYS: tuple[Way, ...] = (
    "whole",
    "whole",
    "body",
    "empty body",
    "trailers",
    "long",
    "reset",
    "refused",
    "late",
)
LONG = (
    "~" * 17_000
)  # more than a frame may have, so it goes on in a CONTINUATION: 13 bits each in the compression
NOISE = ("", "", "ping", "settings", "window")


@dataclass
class Wire(asyncio.Transport):
    """Takes what is written; nothing is sent."""

    written: bytearray = field(default_factory=bytearray)
    aborted: bool = False

    def write(self, data: Any) -> None:
        """Keep it."""
        self.written += data

    def is_closing(self) -> bool:
        """Once it was aborted."""
        return self.aborted

    def abort(self) -> None:
        """The end of it."""
        self.aborted = True

    def close(self) -> None:
        """The end of it."""
        self.aborted = True


class Server:
    """Another implementation of HTTP/2, which answers by script."""

    def __init__(self) -> None:
        self.h2 = H2Connection(H2Configuration(client_side=False, header_encoding=None))
        self.h2.initiate_connection()

    def take(self, wire: Wire) -> None:
        """Read what was written."""
        data, wire.written = bytes(wire.written), bytearray()
        for event in self.h2.receive_data(data):
            if isinstance(event, DataReceived):
                self.h2.acknowledge_received_data(event.flow_controlled_length or 0, event.stream_id or 0)

    def answer(self, number: int, way: Way, status: int) -> Answer | type[Exception] | None:
        """What the client is to make of it; None: nothing yet."""
        head = [(":status", str(status)), ("apns-id", f"6f9619ff-{number:04}")]
        body = f'{{"reason":"R{number}"}}'.encode()
        match way:
            case "whole" | "long":
                more = [("x-long", LONG)] if way == "long" else []
                self.h2.send_headers(number, [*head, *more], end_stream=True)
                return Answer(status=status, body=b"")
            case "body" | "empty body":
                body = body if way == "body" else b""
                self.h2.send_headers(number, head)
                self.h2.send_data(number, body, end_stream=True, pad_length=3)
                return Answer(status=status, body=body)
            case "trailers":
                self.h2.send_headers(number, head)
                self.h2.send_data(number, body)
                self.h2.send_headers(number, [("x-end", "yes")], end_stream=True)
                return Answer(status=status, body=body)
            case "reset":
                self.h2.reset_stream(number, ErrorCodes.INTERNAL_ERROR)
                return Lost
            case "refused":
                self.h2.reset_stream(number, ErrorCodes.REFUSED_STREAM)
                return Unprocessed
            case "late":
                return None

    def noise(self, kind: str) -> None:
        """A frame between answers."""
        if kind == "ping":
            self.h2.ping(b"12345678")
        elif kind == "settings":
            self.h2.update_settings({})
        elif kind == "window":
            self.h2.increment_flow_control_window(1_000)


async def opened() -> tuple[Connection, Wire, Server]:
    """A connection that has the server's settings."""
    connection, wire, server = Connection(lambda _: None), Wire(), Server()
    connection.connection_made(wire)
    server.take(wire)
    connection.data_received(server.h2.data_to_send())
    server.take(wire)
    assert connection.ready.done()
    return connection, wire, server


def posts(connection: Connection, count: int, seconds: float = 60) -> list[asyncio.Task[Answer]]:
    """So many requests at once."""
    until = connection.loop.time() + seconds
    return [
        asyncio.create_task(connection.post([*REQUEST, ("apns-id", str(n))], b"{}", until))
        for n in range(count)
    ]


Script = list[tuple[Way, int, str]]
SCRIPT = st.lists(
    st.tuples(st.sampled_from(WAYS), st.sampled_from([200, 400, 410, 503]), st.sampled_from(NOISE)),
    min_size=1,
    max_size=8,
)


@settings(deadline=None, max_examples=60)
@given(SCRIPT, st.randoms(use_true_random=False), st.integers(1, 40_000))
def test_each_request_gets_its_own_answer(script: Script, chance: Any, largest: int) -> None:
    """In any order, between other frames, and however TCP cuts the bytes."""

    async def run() -> None:
        connection, wire, server = await opened()
        asked = posts(connection, len(script))
        await asyncio.sleep(0.001)
        server.take(wire)
        expected: list[Answer | type[Exception] | None] = [None] * len(script)
        for at in chance.sample(range(len(script)), len(script)):
            way, status, noise = script[at]
            expected[at] = server.answer(2 * at + 1, way, status)
            server.noise(noise)
        data = server.h2.data_to_send()
        while data:
            size = chance.randint(1, largest)
            connection.data_received(data[:size])
            data = data[size:]
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        for task, wanted in zip(asked, expected, strict=True):
            assert task.done() is (wanted is not None)
            if isinstance(wanted, Answer):
                assert task.result() == wanted
            elif wanted is not None:
                assert type(task.exception()) is wanted
        server.take(wire)  # it has no complaint: acknowledged, in order, nothing on closed streams
        assert not wire.aborted
        open_ = {2 * at + 1 for at, wanted in enumerate(expected) if wanted is None}
        assert set(connection.conn.streams) == open_
        connection.connection_lost(None)
        await asyncio.gather(*asked, return_exceptions=True)

    asyncio.run(run())


@pytest.mark.parametrize(
    "frame",
    [
        struct.pack(">BHBBI", 0, 16_385, 0, 1, 1) + bytes(16_385),  # larger than a frame may be
        struct.pack(">BHBBI", 0, 1, 1, 5, 1) + b"\xff",  # an index that is not in the table
        struct.pack(">BHBBI", 0, 5, 0, 1, 99) + b"hello",  # on a stream that nobody opened
    ],
)
async def test_a_server_that_breaks_the_protocol_is_left(frame: bytes) -> None:
    """And whoever waits there learns it."""
    connection, wire, _ = await opened()
    (asked,) = posts(connection, 1)
    await asyncio.sleep(0.001)
    connection.data_received(frame)
    assert wire.aborted
    connection.connection_lost(None)
    with pytest.raises(Lost):
        await asked


async def test_only_the_late_are_given_up() -> None:
    """One timer for all: each has its own time, and the server is told (RFC 9113, 5.4.2)."""
    connection, wire, server = await opened()
    late, early = posts(connection, 1, 30) + posts(connection, 1, 0.05)
    with pytest.raises(TimeoutError):
        await early
    assert not late.done()
    server.take(wire)
    server.answer(1, "whole", 200)
    connection.data_received(server.h2.data_to_send())
    assert (await late).status == 200
    with pytest.raises(Exception, match="3"):
        server.h2.send_headers(3, [(":status", "200")])
    connection.connection_lost(None)
