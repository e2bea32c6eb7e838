"""`Client.publish`: an event is accepted when Kafka has acknowledged it with `acks=all`.

Two threads: the caller's loop produces, one thread polls librdkafka for delivery reports and hands
them over in batches, one `call_soon_threadsafe` for all that one poll brought.
"""

import asyncio
import logging
import os
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from types import TracebackType
from typing import Self

from confluent_kafka import KafkaError, KafkaException, Message, Producer

from pipeline.adapters.wire.codec import Wire
from pipeline.adapters.wire.ids import LockFile
from pipeline.model.catalogue import Catalogue
from pipeline.model.errors import (
    BrokerUnavailable,
    CallerError,
    ConfigurationError,
    EverpostError,
    PayloadTooLarge,
)
from pipeline.model.event import Event
from pipeline.model.record import Outgoing
from pipeline.model.topics import LARGEST_EVENT
from pipeline.observe import Log
from pipeline.sdk.door import Encoder, prepare

_log = Log(__name__)
_POLL = 0.1  # seconds that the poll thread waits for a report, and so that closing waits for the thread
_SLICE = 1000  # events at once: a semaphore with 20,000 waiters takes 60 % of the time
_CLOSING = 10.0  # seconds that closing waits for acknowledgements, unless told otherwise
_LIBRDKAFKA = logging.getLogger("everpost.librdkafka")
_LIBRDKAFKA.addHandler(
    logging.NullHandler()
)  # heard by who configures logging; else not on the caller's terminal
_Report = tuple["asyncio.Future[Message]", KafkaError | None, Message]


@dataclass(frozen=True, slots=True, kw_only=True)
class Receipt:
    """Where an accepted event stands in Kafka."""

    event_id: str
    topic: str
    partition: int
    offset: int


class Client:
    """Publishes events to Kafka. Connects with the first event; use it in one event loop.

    `buffer` is how many events may wait for their acknowledgement; then `publish` waits as well.
    `timeout` is how long Kafka may take to acknowledge one, in seconds, librdkafka's own repeats included.
    """

    def __init__(
        self,
        bootstrap_servers: str,
        *,
        catalogue: Catalogue,
        encoder: Encoder | None = None,
        buffer: int = 10_000,
        timeout: float = 30.0,
    ) -> None:
        self._config = _config(bootstrap_servers, buffer, timeout)
        self._catalogue = catalogue
        self._encoder = encoder or Wire(LockFile())
        self._room = asyncio.Semaphore(buffer)
        self._connected: _Connected | None = None
        self._closed = False

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()

    async def publish(self, event: Event) -> Receipt:
        """Return when Kafka has acknowledged the event.

        Raises InvalidEvent, PayloadTooLarge; BrokerUnavailable when it was not acknowledged in time: it
        may still be there, so publish the same event again (the id makes that harmless).
        """
        now = datetime.now(UTC)  # noqa: TID251  # the caller's edge: here the time comes in
        return await self._send(event, prepare(event, self._catalogue, self._encoder, now))

    async def publish_many(self, events: Sequence[Event]) -> list[Receipt]:
        """Return when all are acknowledged, their receipts in the same order.

        All are checked before the first is sent. Raises as `publish`; after BrokerUnavailable publish
        all of them again: those that Kafka has are dropped as duplicates.
        """
        now = datetime.now(UTC)  # noqa: TID251  # the caller's edge: here the time comes in
        ready = [(event, prepare(event, self._catalogue, self._encoder, now)) for event in events]
        receipts: list[Receipt] = []
        for start in range(0, len(ready), _SLICE):
            sending = [self._send(event, record) for event, record in ready[start : start + _SLICE]]
            results = await asyncio.gather(*sending, return_exceptions=True)  # leave none running behind
            for result in results:
                if isinstance(result, BaseException):
                    raise result
                receipts.append(result)
        return receipts

    async def aclose(self, within: float = _CLOSING) -> None:
        """Wait for what is on its way, at most `within` seconds, and log how many were given up."""
        self._closed = True
        if self._connected is not None:
            connected, self._connected = self._connected, None
            if abandoned := await connected.aclose(within):
                _log.warning("publish.abandoned", count=abandoned)

    async def _send(self, event: Event, record: Outgoing) -> Receipt:
        async with self._room:
            message = await self._open().produce(record)
        partition, offset = message.partition(), message.offset()
        if (
            partition is None or offset is None
        ):  # librdkafka concludes that it is there; Kafka has not said so
            raise BrokerUnavailable(f"Kafka named no place for the event: {_UNREACHED}")
        return Receipt(event_id=event.event_id, topic=record.topic, partition=partition, offset=offset)

    def _open(self) -> "_Connected":
        if self._closed:
            raise CallerError("this Client is closed: open another one")
        if self._connected is not None and self._connected.pid != os.getpid():
            raise CallerError("this Client was used before a fork: open one in each process")
        if self._connected is None or self._connected.broken:
            self._connected = _Connected(self._config)
        return self._connected


class _Connected:
    """A producer and its poll thread."""

    def __init__(self, config: Mapping[str, str | int | bool]) -> None:
        self.pid = os.getpid()
        self.broken = False  # after a fatal error: an idempotent producer never recovers from one
        self._loop = asyncio.get_running_loop()
        self._producer = Producer({**config, "logger": _LIBRDKAFKA})
        self._waiting: set[asyncio.Future[Message]] = set()
        self._reports: list[_Report] = []
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._poll, name="everpost-publish", daemon=True)
        self._thread.start()

    async def produce(self, record: Outgoing) -> Message:
        """Hand over and wait for the delivery report."""
        future: asyncio.Future[Message] = self._loop.create_future()

        def report(error: KafkaError | None, message: Message) -> None:
            self._reports.append((future, error, message))

        while True:
            try:
                self._producer.produce(
                    record.topic, record.value, record.key, on_delivery=report, headers=list(record.headers)
                )
            except BufferError:  # librdkafka's bound, in bytes: wait for room
                await asyncio.wait(self._waiting, return_when=asyncio.FIRST_COMPLETED)
            except KafkaException as refused:
                self.broken = refused.args[0].fatal()
                raise translated(refused.args[0]) from refused
            else:
                break
        self._waiting.add(future)
        future.add_done_callback(self._waiting.discard)
        return await future

    async def aclose(self, within: float) -> int:
        """Wait for what is on its way, stop the thread; gives how many events stayed unacknowledged."""
        abandoned = set(self._waiting)
        if abandoned:
            _, abandoned = await asyncio.wait(abandoned, timeout=within)
        for future in abandoned:
            future.set_exception(
                BrokerUnavailable("the Client was closed before Kafka acknowledged this event")
            )
        self._stop.set()
        await asyncio.to_thread(self._thread.join)
        return len(abandoned)

    def _poll(self) -> None:
        while not self._stop.is_set():
            self._producer.poll(_POLL)  # runs `report` of every record that is done
            reports, self._reports = self._reports, []
            if reports:
                self._loop.call_soon_threadsafe(self._resolve, reports)

    def _resolve(self, reports: Sequence[_Report]) -> None:
        for future, error, message in reports:
            if future.done():  # its caller has stopped waiting
                continue
            if error is None:
                future.set_result(message)
            else:
                self.broken = self.broken or error.fatal()
                future.set_exception(translated(error))


_UNREACHED = "the event was not acknowledged in time; publish the same event again"
_FAULTS: Mapping[int, tuple[type[EverpostError], str]] = {
    KafkaError.MSG_SIZE_TOO_LARGE: (PayloadTooLarge, "raise message.max.bytes of the broker, or send less"),
    KafkaError.UNKNOWN_TOPIC_OR_PART: (ConfigurationError, "make the topics: everpost topics apply"),
    KafkaError._UNKNOWN_TOPIC: (ConfigurationError, "make the topics: everpost topics apply"),  # noqa: SLF001  # a code of librdkafka
    KafkaError._UNKNOWN_PARTITION: (ConfigurationError, "make the topics: everpost topics apply"),  # noqa: SLF001  # a code of librdkafka
    KafkaError.TOPIC_AUTHORIZATION_FAILED: (ConfigurationError, "allow this principal to write"),
    KafkaError.CLUSTER_AUTHORIZATION_FAILED: (ConfigurationError, "allow this principal IdempotentWrite"),
}


def translated(error: KafkaError) -> EverpostError:
    """What an error of librdkafka means to a caller; what the table does not name may pass."""
    kind, advice = _FAULTS.get(error.code(), (BrokerUnavailable, _UNREACHED))
    return kind(f"Kafka: {error.str()}; {advice}")


def _config(bootstrap_servers: str, buffer: int, timeout: float) -> Mapping[str, str | int | bool]:
    return {
        "bootstrap.servers": bootstrap_servers,
        "enable.idempotence": True,  # and with it acks=all and order within a partition
        # Of several on the way, librdkafka takes the success of a later one for that of an earlier one, which a
        # broker that has just come back may have refused: acknowledged, and lost (decision 0009). Costs nothing.
        "max.in.flight.requests.per.connection": 1,
        "partitioner": "murmur2_random",  # as every other client: a user's events meet in one partition
        "compression.type": "lz4",
        "linger.ms": 1,  # at 5, the default, one publish took 6.4 ms here instead of 1.9
        "delivery.timeout.ms": int(timeout * 1000),
        "message.max.bytes": 2 * LARGEST_EVENT,  # an event and its headers
        "queue.buffering.max.messages": 2 * buffer,  # never reached: `buffer` is the bound
    }
