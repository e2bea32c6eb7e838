"""The few HTTP/2 connections to APNs, and the line of those who wait for room on one."""

import asyncio
import ssl
from collections import deque
from collections.abc import Iterable

from connectors._apns_h2 import Answer, Connection, Headers, Lost, NotSent, Unprocessed, settle

_ROUNDS = 3  # how often a stream may be declared unprocessed before the caller hears of it
_LEAST = 0.1  # of its time that a request must have left, or it would be lost for nothing
_SHUTDOWN = 1.0  # seconds for the TLS goodbye; asyncio's own 30 would hold `aclose`


class Untrusted(Exception):
    """The other side is not what it should be: certificate refused, or no HTTP/2."""


class Pool:
    """At most `connections` connections to one server, opened when those at hand are busy.

    `seconds` limit one request, waiting and connecting included. Nobody sleeps and nobody polls: who
    finds no room stands in line, and every change wakes as many as there is room for.
    """

    def __init__(
        self, *, host: str, port: int, tls: ssl.SSLContext, connections: int, seconds: float
    ) -> None:
        self._host = host
        self._port = port
        self._tls = tls
        self._most = connections
        self._seconds = seconds
        self._usable: list[Connection] = []
        self._open: set[Connection] = set()  # with those that drain
        self._line: deque[asyncio.Future[Exception | None]] = deque()
        self._connecting: asyncio.Task[None] | None = None
        self._closing = False
        self._loop = asyncio.get_running_loop()  # each question asks the kernel who we are

    async def post(self, headers: Headers, body: bytes) -> Answer:
        """One request. Raises NotSent, Untrusted and Lost."""
        until = self._loop.time() + self._seconds
        for _ in range(_ROUNDS):
            connection = self._at_once() or await self._in_turn(until)
            written = self._loop.time()
            if until - written < self._seconds * _LEAST:
                self._wake(1)  # the room goes to somebody who has time for an answer
                raise NotSent("a stream was free too late to wait for its answer")
            try:
                return await connection.post(headers, body, until)
            except Unprocessed:
                continue
            except TimeoutError:
                if connection.heard < written:
                    connection.retire()  # not a byte since: the line may be dead without a word
                raise Lost(f"no answer within {self._seconds:g} s") from None
        raise NotSent(f"the server left the request unprocessed {_ROUNDS} times")

    async def aclose(self) -> None:
        """Let what is in flight come to its end, then close every connection."""
        self._closing = True
        if self._connecting is not None:
            self._connecting.cancel()
            await asyncio.wait([self._connecting])
        self._wake(len(self._line))
        for connection in list(self._open):
            connection.retire()
        for connection in await _unclosed(self._open, self._seconds + _SHUTDOWN):
            connection.abort()
        await _unclosed(self._open, _SHUTDOWN)

    def _at_once(self) -> Connection | None:
        """A connection with room at this moment, unless others stand in line for it: write before the next await."""
        return None if self._closing or self._line else self._with_room()

    def _with_room(self) -> Connection | None:
        return next((connection for connection in self._usable if connection.room), None)

    async def _in_turn(self, until: float) -> Connection:
        """The same, after a wait. Raises NotSent and Untrusted."""
        try:
            async with asyncio.timeout_at(until):
                waited = False
                while True:
                    if self._closing:
                        raise NotSent("the connector is closing")
                    # Who comes later stands behind.
                    if (waited or not self._line) and (connection := self._with_room()) is not None:
                        return connection
                    if self._connecting is None and len(self._usable) < self._most:
                        self._connecting = asyncio.create_task(self._connect())
                    await self._wait(first=waited)
                    waited = True
        except TimeoutError:
            raise NotSent(f"no stream to {self._host} was free within {self._seconds:g} s") from None

    async def _wait(self, *, first: bool) -> None:
        """Until something has changed. Raises what `_wake` was given."""
        place: asyncio.Future[Exception | None] = self._loop.create_future()
        (self._line.appendleft if first else self._line.append)(place)
        try:
            error = await place
        except asyncio.CancelledError:
            if place in self._line:
                self._line.remove(place)
            else:
                self._wake(1)  # its turn had come: pass it on
            raise
        if error is not None:
            raise error

    def _wake(self, count: int, error: Exception | None = None) -> None:
        for _ in range(min(count, len(self._line))):
            settle(self._line.popleft(), error)

    def _changed(self, connection: Connection) -> None:
        if connection.closed.done():
            self._open.discard(connection)
        if connection not in self._usable:
            return
        if connection.draining:
            self._usable.remove(connection)
            self._wake(len(self._line))  # one of them opens another
        elif self._line:
            self._wake(connection.room)

    async def _connect(self) -> None:
        error: Exception | None = None
        try:
            self._usable.append(await self._connection())
        except (OSError, ValueError, NotSent, Untrusted) as caught:  # ValueError: no host name at all
            error = _cause(caught, f"{self._host}:{self._port}")
        self._connecting = None
        if error is None or not self._usable:  # else the busy ones will have room again
            self._wake(len(self._line), error)

    async def _connection(self) -> Connection:
        """A new connection that has the server's SETTINGS: before, nobody knows how many streams it allows."""
        async with asyncio.timeout(self._seconds):
            transport, connection = await self._loop.create_connection(
                lambda: Connection(self._changed),
                self._host,
                self._port,
                ssl=self._tls,
                ssl_shutdown_timeout=_SHUTDOWN,
            )
            self._open.add(connection)
            try:
                await _prove(connection, transport)
            except (asyncio.CancelledError, NotSent, Untrusted):
                connection.abort()
                raise
        return connection


async def _prove(connection: Connection, transport: asyncio.Transport) -> None:
    """Wait until the connection can be used. Raises Untrusted and NotSent."""
    if transport.get_extra_info("ssl_object").selected_alpn_protocol() != "h2":
        raise Untrusted("it does not speak HTTP/2")
    await asyncio.wait([connection.ready, connection.closed], return_when=asyncio.FIRST_COMPLETED)
    if connection.closed.done() or connection.draining:
        raise NotSent("it closed the connection at once")


def _cause(error: Exception, where: str) -> NotSent | Untrusted:
    """What a failed connect means for those who waited for it."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return Untrusted(f"{where}: its certificate is not trusted ({error.verify_message})")
    if isinstance(error, Untrusted):
        return Untrusted(f"{where}: {error}")
    return NotSent(f"cannot connect to {where}: {error or type(error).__name__}")


async def _unclosed(connections: Iterable[Connection], seconds: float) -> list[Connection]:
    """Wait until all are closed; those that are not after `seconds`."""
    closed = {connection.closed: connection for connection in connections}
    if not closed:
        return []
    _, pending = await asyncio.wait(closed, timeout=seconds)
    return [closed[one] for one in pending]
