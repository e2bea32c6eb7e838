"""HTTP/2 connections for APNs: aioapns' protocol on jh2, with its event handling replaced.

aioapns 4.0 matches answers by a header, never acknowledges flow control, breaks the connection on a
late answer and closes it on GOAWAY: it hangs, stalls and repeats (tests/contract/test_apns_h2.py holds each case).
This layer keeps its connection set-up, write and idle timer, and holds these rules:

- An answer belongs to its stream, and every stream leaves the table exactly once.
- A request is written at most once, unless the server itself declares the stream unprocessed
  (REFUSED_STREAM, or a stream above the last one of a GOAWAY; RFC 9113, 8.7).
- `NotSent`: nothing was written. `Lost`: it was, and nobody knows what became of it.
- No more streams than the server allows, and no headers whose body does not fit its window.

jh2 is h2 with header compression and frames in Rust, which saves a quarter of a send (decision page 0011).
A request's two frames are put together here, and those of one turn of the event loop are written at once: by way
of jh2's own objects a request took 55 µs, so it takes 20. An answer that is one frame, as every yes is, is read here
too: 30 µs, and so it takes 8. All other frames are jh2's, and it keeps the connection's state.
This layer leans on private names of aioapns 4.0 and jh2 5.0: both are pinned.
"""

import asyncio
import struct
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

import jh2.events
from aioapns.connection import APNsTLSClientProtocol
from jh2.config import H2Configuration
from jh2.connection import AllowedStreamIDs, ConnectionInputs, H2Connection, _decode_headers  # pyright: ignore[reportPrivateUsage]
from jh2.errors import ErrorCodes
from jh2.exceptions import NoAvailableStreamIDError, ProtocolError
from jh2.hyperframe.frame import Frame, GoAwayFrame
from jh2.stream import StreamClosedBy, StreamInputs

MAX_BODY = 4096  # bytes; a connection without window for it counts as busy

# The headers are ours, lower case and in order; to let h2 check them takes 60 of 260 µs a message.
_UNCHECKED = H2Configuration(validate_outbound_headers=False, normalize_outbound_headers=False)

# Different for every message: kept out of the compression's memory, as Apple asks, or they would push out the rest.
_ONCE = frozenset({":path", "apns-id", "apns-expiration"})
_FRAME = struct.Struct(">BHBBI")  # RFC 9113, 4.1: length in 24 bits, type, flags, stream
_HEADERS, _END_HEADERS = 1, 4
_DATA, _END_STREAM = 0, 1
_WHOLE = _END_HEADERS | _END_STREAM  # HEADERS that are all of an answer, without padding or priority

events: Any = jh2.events  # to a checker every field of its events is None
Headers = Sequence[tuple[str, str]]
T = TypeVar("T")


class NotSent(Exception):
    """The server has not processed the request: not written, or declared unprocessed."""


class Unprocessed(NotSent):
    """The server declares that it did not process the stream, so it may be written again."""


class Lost(Exception):
    """The request was written and the answer is lost."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What came back on a stream; status 0 when it ended without headers."""

    status: int
    body: bytes


@dataclass(slots=True, kw_only=True)
class _Stream:
    """A request that waits for its answer."""

    answer: asyncio.Future[Answer | Exception]  # a value, so that an error nobody awaits stays silent
    until: float  # loop time
    status: int = 0
    body: bytearray = field(default_factory=bytearray)


class _DrainingH2(H2Connection):
    """Reads on after GOAWAY. h2 itself closes at once and rejects answers to older streams (h2 #1181).

    And it opens a stream with its whole request in one step, whoever calls having looked for room.
    """

    @property
    def has_to_send(self) -> bool:
        """Whether there are bytes for the server."""
        return bool(self._data_to_send)

    def request(self, number: int, headers: Headers, body: bytes) -> None:
        """Queue the HEADERS and the DATA of a stream that is new. Both fit in a frame: MAX_BODY, and Apple's limits."""
        self.state_machine.process_input(ConnectionInputs.SEND_HEADERS)
        stream: Any = self._begin_new_stream(number, AllowedStreamIDs.ODD)
        stream.state_machine.process_input(StreamInputs.SEND_HEADERS)
        stream.state_machine.process_input(StreamInputs.SEND_END_STREAM)
        encoder: Any = self.encoder
        block = encoder.encode([(name.encode(), value.encode(), name in _ONCE) for name, value in headers])
        stream.outbound_flow_control_window -= len(body)
        self.outbound_flow_control_window -= len(body)
        self._data_to_send += b"".join(
            (
                _FRAME.pack(len(block) >> 16, len(block) & 0xFFFF, _HEADERS, _END_HEADERS, number),
                block,
                _FRAME.pack(len(body) >> 16, len(body) & 0xFFFF, _DATA, _END_STREAM, number),
                body,
            )
        )

    def answered(self, number: int, block: bytes) -> Any:
        """The headers of a stream that ends with them. Raises ProtocolError."""
        headers = _decode_headers(self.decoder, block)
        del self.streams[number]
        self._closed_streams[number] = StreamClosedBy.RECV_END_STREAM
        return headers

    def forget(self, number: int) -> None:
        """Let a stream go that has ended. h2 looks through all of them with every request for those."""
        stream: Any = self.streams.get(number)
        if stream is not None and stream.closed:
            del self.streams[number]
            self._closed_streams[number] = stream.closed_by

    def _receive_goaway_frame(self, frame: GoAwayFrame) -> tuple[list[Frame], list[Any]]:
        event = events.ConnectionTerminated()
        event.last_stream_id = frame.last_stream_id
        return [], [event]


class Connection(APNsTLSClientProtocol):
    """One HTTP/2 connection. `changed` is called whenever it may have become free, or unusable."""

    INACTIVITY_TIME = 900  # seconds; the stock 10 also close a connection that waits for answers

    def __init__(self, changed: Callable[["Connection"], None]) -> None:
        loop = asyncio.get_running_loop()
        super().__init__("", loop)
        self.conn = _DrainingH2(_UNCHECKED)
        self.ready: asyncio.Future[None] = loop.create_future()  # the server's first SETTINGS are here
        self.closed: asyncio.Future[None] = loop.create_future()
        self.draining = False
        self.heard = 0.0  # loop time of the last bytes from the server
        self._changed = changed
        self._streams: dict[int, _Stream] = {}
        self._writing = False  # at the end of this turn of the loop
        self._rest = b""  # of a frame that is not all here
        self._spoken = 0.0  # loop time of the last bytes to the server
        # For the request whose time is over first: a timer for each took 6 µs of a send.
        self._timer: asyncio.TimerHandle | None = None

    @property
    def room(self) -> int:
        """How many requests may be written now."""
        settings = self.conn.remote_settings
        if self.draining or self._transport.is_closing() or settings.initial_window_size < MAX_BODY:
            return 0
        streams = settings.max_concurrent_streams - len(self._streams)
        return max(0, min(streams, self.conn.outbound_flow_control_window // MAX_BODY))

    async def post(self, headers: Headers, body: bytes, until: float) -> Answer:
        """Write one request, with all others of this turn, and wait for its answer, `until` that loop time.

        Raises Unprocessed, Lost and TimeoutError. A caller that is cancelled, or late, gives its stream up; whatever
        comes afterwards finds nothing.
        """
        try:
            number = self.conn.get_next_available_stream_id()
        except NoAvailableStreamIDError as error:  # after 2**30 requests
            self.retire()
            raise Unprocessed("the connection is used up") from error
        self.conn.request(number, headers, body)
        stream = self._streams[number] = _Stream(answer=self.loop.create_future(), until=until)
        if self._timer is None or until < self._timer.when():
            self._watch(until)
        if not self._writing:
            self._writing = True
            self.loop.call_soon(self._write)
        try:
            answer = await stream.answer
        except asyncio.CancelledError:
            self._abandon(number)
            raise
        if isinstance(answer, Exception):
            raise answer
        return answer

    def retire(self) -> None:
        """Take no new requests, and close when the last answer is here."""
        if not self.draining:
            self.draining = True
            self._changed(self)
        self._close_when_done()

    def data_received(self, data: bytes) -> None:
        """Take the answers that are whole, and act on what h2 makes of the rest."""
        self.heard = self.loop.time()
        data = self._rest + data
        try:
            self._rest = data[self._read(data) :]
        except ProtocolError:
            self._send_pending()  # h2 has a GOAWAY with the reason
            self._transport.abort()
            return
        self._send_pending()

    def connection_lost(self, exc: Exception | None) -> None:
        """Every request without an answer is lost."""
        for timer in (self.inactivity_timer, self._timer):
            if timer:
                timer.cancel()
        self.draining = True
        for stream in self._streams.values():
            settle(stream.answer, Lost(f"the connection closed before the answer: {exc or 'end of stream'}"))
        self._streams.clear()
        settle(self.closed, None)
        self._changed(self)

    def refresh_inactivity_timer(self) -> None:
        """Note it for the one timer that there is; the stock way sets a new one with every write."""
        self._spoken = self.loop.time()
        if self.inactivity_timer is None:
            self._idle()

    def abort(self) -> None:
        """Close now, whatever is outstanding."""
        self._transport.abort()

    @property
    def _transport(self) -> asyncio.Transport:
        assert self.transport is not None, "a connection is used after connection_made"
        return self.transport

    def _write(self) -> None:
        self._writing = False
        self._send_pending()

    def _send_pending(self) -> None:
        if self.conn.has_to_send and not self._transport.is_closing():
            self.flush()

    def _idle(self) -> None:
        left = self._spoken + self.INACTIVITY_TIME - self.loop.time()
        if left > 0:
            self.inactivity_timer = self.loop.call_later(left, self._idle)
        else:
            self.close()

    def _watch(self, until: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = self.loop.call_at(until, self._look)

    def _look(self) -> None:
        """Give up those whose time is over."""
        self._timer, now = None, self.loop.time()
        for number, stream in [*self._streams.items()]:
            if stream.until <= now:
                settle(stream.answer, TimeoutError())
                self._abandon(number)
        if self._streams:
            self._watch(min(stream.until for stream in self._streams.values()))

    def _read(self, data: bytes) -> int:
        """Gives how many of the bytes were read, all frames that are whole. Raises ProtocolError."""
        read = at = 0
        while at + _FRAME.size <= len(data):
            high, low, kind, flags, number = _FRAME.unpack_from(data, at)
            begin = at + _FRAME.size
            end = begin + (high << 16 | low)
            if end > len(data):
                break
            if kind == _HEADERS and flags == _WHOLE:
                self._feed(data[read:at])
                read = at
                stream = self._streams.get(number)
                if stream is not None and not stream.status:  # else these are trailers, or too late
                    stream.status = _status(self.conn.answered(number, data[begin:end]))
                    self._finish(number)
                    read = end
            at = end
        self._feed(data[read:at])
        return at

    def _feed(self, frames: bytes) -> None:
        if frames:
            for event in self.conn.receive_data(frames):
                self._on(event)

    def _on(self, event: Any) -> None:
        match event:
            case events.ResponseReceived(stream_id=int(number)):
                if stream := self._streams.get(number):
                    stream.status = _status(event.headers)
            case events.DataReceived(stream_id=int(number)):
                # Unacknowledged, the 65,535 bytes of window end after 2,427 BadDeviceToken answers.
                self.conn.acknowledge_received_data(event.flow_controlled_length or 0, number)
                if stream := self._streams.get(number):
                    stream.body.extend(event.data or b"")
            case events.StreamEnded(stream_id=int(number)):
                self._finish(number)
            case events.StreamReset(stream_id=int(number), error_code=ErrorCodes.REFUSED_STREAM):
                self._finish(number, Unprocessed("REFUSED_STREAM"))
            case events.StreamReset(stream_id=int(number)):
                self._finish(number, Lost(f"the server reset the stream, error {event.error_code}"))
            case _:
                self._on_connection(event)

    def _on_connection(self, event: Any) -> None:
        match event:
            case events.ConnectionTerminated(last_stream_id=last):
                for number in [number for number in self._streams if number > (last or 0)]:
                    self._finish(number, Unprocessed("GOAWAY"))
                self.retire()
            case events.RemoteSettingsChanged():
                settle(self.ready, None)
                self._changed(self)
            case events.WindowUpdated():
                self._changed(self)
            case _:
                pass  # acknowledgements, pings (h2 answers them) and extensions

    def _finish(self, number: int, error: Exception | None = None) -> None:
        stream = self._streams.pop(number, None)
        if stream is None:
            return
        self.conn.forget(number)
        settle(stream.answer, error or Answer(status=stream.status, body=bytes(stream.body)))
        self._changed(self)
        self._close_when_done()

    def _abandon(self, number: int) -> None:
        if self._streams.pop(number, None) is None or self._transport.is_closing():
            return
        self.conn.reset_stream(number, ErrorCodes.CANCEL)
        self.conn.forget(number)
        self._send_pending()
        self._changed(self)
        self._close_when_done()

    def _close_when_done(self) -> None:
        if self.draining and not self._streams:
            self.close()


def settle(waiting: asyncio.Future[T], value: T) -> None:
    """Give a future its value unless it has one, or nobody waits any more."""
    if not waiting.done():
        waiting.set_result(value)


def _status(headers: Any) -> int:
    status = next((value for name, value in headers or () if name == b":status"), b"")
    return int(status) if status.isdigit() else 0
