"""An HTTP/2 server over TLS whose every frame is ours, so that it can misbehave on request.

It answers, resets, hangs up or says GOAWAY as its handler decides, obeys the client's flow control as
Apple does, and treats a client's mistake as a connection error.
"""

import asyncio
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from h2 import events
from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.errors import ErrorCodes
from h2.exceptions import ProtocolError
from h2.settings import SettingCodes, Settings
from hyperframe.frame import GoAwayFrame

from connectors.sandbox.certs import Certs

MAX_STREAMS = 1000  # at once on a connection, as Apple allows a sender that has proved itself


@dataclass(slots=True, kw_only=True)
class Exchange:
    """One request that was read to its end, and the ways to react. Once one is taken, the rest do nothing."""

    connection: "_Connection"
    stream: int
    headers: Mapping[str, str]
    duplicates: bool  # some header came twice
    body: bytes

    def respond(self, status: int, headers: Mapping[str, str], body: str) -> None:
        """Answer, as fast as the client's window allows."""
        self.connection.respond(self.stream, status, headers, body.encode())

    def reset(self, *, refused: bool) -> None:
        """RST_STREAM: REFUSED_STREAM means that nothing was processed."""
        self.connection.reset(
            self.stream, ErrorCodes.REFUSED_STREAM if refused else ErrorCodes.INTERNAL_ERROR
        )

    def hang_up(self) -> None:
        """Close the whole connection without an answer."""
        self.connection.transport.close()

    def goaway(self) -> None:
        """Process no stream that was not read yet, answer those that were, then close."""
        self.connection.goaway()


Handler = Callable[[Exchange], None]


@dataclass(slots=True, kw_only=True)
class H2Server:
    """A server that listens; fulfils `Running` and counts what a test wants to know."""

    port: int = 0
    options: Mapping[str, str] = field(default_factory=dict[str, str])
    connections: int = 0  # accepted so far
    protocol_errors: list[str] = field(default_factory=list[str])
    open: set["_Connection"] = field(default_factory=set["_Connection"])
    listener: asyncio.Server | None = None

    def drop(self) -> None:
        """Cut every connection, as a network does."""
        for connection in list(self.open):
            connection.transport.abort()

    async def aclose(self) -> None:
        """Close the port and every connection."""
        if self.listener is not None:
            self.listener.close()
        closed = [connection.closed for connection in self.open]
        self.drop()
        if closed:
            await asyncio.wait(closed, timeout=5.0)


async def serve(handler: Handler, certs: Certs, port: int, *, max_streams: int = MAX_STREAMS) -> H2Server:
    """Listen on 127.0.0.1. Raises OSError when the port is taken."""
    server = H2Server()
    server.listener = await asyncio.get_running_loop().create_server(
        lambda: _Connection(server, handler, max_streams),
        "127.0.0.1",
        port,
        ssl=certs.server_context("h2"),
        ssl_shutdown_timeout=1.0,
    )
    server.port = server.listener.sockets[0].getsockname()[1]
    return server


@dataclass(slots=True, kw_only=True)
class _Request:
    """A request that is still being read."""

    headers: Mapping[str, str]
    duplicates: bool
    body: bytearray = field(default_factory=bytearray)


class _Connection(asyncio.Protocol):
    """One client."""

    def __init__(self, server: H2Server, handler: Handler, max_streams: int) -> None:
        self._server = server
        self._handler = handler
        self._reading: dict[int, _Request] = {}
        self._unanswered: set[int] = set()
        self._bodies: deque[tuple[int, bytes]] = deque()  # wait for the client's window
        self._last_read = 0  # the highest stream that was handed to the handler
        self._leaving = False  # GOAWAY was said
        self.closed: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._h2 = H2Connection(H2Configuration(client_side=False, header_encoding="utf-8"))
        # As initial values: an update would count only after the first SETTINGS frame.
        self._h2.local_settings = Settings(
            client=False, initial_values={SettingCodes.MAX_CONCURRENT_STREAMS: max_streams}
        )

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport
        self._server.connections += 1
        self._server.open.add(self)
        self._h2.initiate_connection()
        self._flush()

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - asyncio's signature
        self._server.open.discard(self)
        self._unanswered.clear()
        self.closed.set_result(None)

    def data_received(self, data: bytes) -> None:
        try:
            received = self._h2.receive_data(data)
        except ProtocolError as error:
            self._server.protocol_errors.append(repr(error))
            self._flush()
            self.transport.close()
            return
        for event in received:
            self._on(event)
        self._flush()

    def respond(self, stream: int, status: int, headers: Mapping[str, str], body: bytes) -> None:
        """Answer a stream; one that is gone is left alone."""
        if stream not in self._unanswered:
            return
        self._h2.send_headers(stream, [(":status", str(status)), *headers.items()], end_stream=not body)
        if body:
            self._bodies.append((stream, body))
            self._send_bodies()
        else:
            self._answered(stream)
        self._flush()

    def reset(self, stream: int, code: ErrorCodes) -> None:
        """Give a stream up; one that is gone is left alone."""
        if stream in self._unanswered:
            self._h2.reset_stream(stream, code)
            self._answered(stream)
            self._flush()

    def goaway(self) -> None:
        """Announce the end. Written by hand: h2 itself could answer nothing afterwards."""
        if not self._leaving and not self.transport.is_closing():
            self._leaving = True
            self._flush()
            self.transport.write(GoAwayFrame(0, last_stream_id=self._last_read).serialize())
            self._close_when_done()

    def _on(self, event: events.Event) -> None:
        match event:
            case events.RequestReceived(stream_id=int(stream), headers=list(headers)):
                if not self._leaving:
                    found = {str(name): str(value) for name, value in headers}
                    self._reading[stream] = _Request(headers=found, duplicates=len(found) < len(headers))
            case events.DataReceived(stream_id=int(stream)):
                self._h2.acknowledge_received_data(event.flow_controlled_length or 0, stream)
                if request := self._reading.get(stream):
                    request.body.extend(event.data or b"")
            case events.StreamEnded(stream_id=int(stream)):
                self._read(stream)
            case events.StreamReset(stream_id=int(stream)):
                self._reading.pop(stream, None)
                self._answered(stream)
            case events.WindowUpdated():
                self._send_bodies()
            case _:
                pass  # settings, acknowledgements and pings: h2 answers them

    def _read(self, stream: int) -> None:
        request = self._reading.pop(stream, None)
        if request is None or self._leaving or self.transport.is_closing():
            return  # came after GOAWAY or after we hung up: not processed
        self._last_read = max(self._last_read, stream)
        self._unanswered.add(stream)
        self._handler(
            Exchange(
                connection=self,
                stream=stream,
                headers=request.headers,
                duplicates=request.duplicates,
                body=bytes(request.body),
            )
        )

    def _send_bodies(self) -> None:
        while self._bodies:
            stream, body = self._bodies[0]
            if stream not in self._unanswered:
                self._bodies.popleft()
            elif self._h2.local_flow_control_window(stream) < len(body):
                return
            else:
                self._bodies.popleft()
                self._h2.send_data(stream, body, end_stream=True)
                self._answered(stream)

    def _answered(self, stream: int) -> None:
        self._unanswered.discard(stream)
        self._close_when_done()

    def _close_when_done(self) -> None:
        if self._leaving and not self._unanswered:
            self._flush()
            self.transport.close()

    def _flush(self) -> None:
        if not self.transport.is_closing():
            self.transport.write(self._h2.data_to_send())
