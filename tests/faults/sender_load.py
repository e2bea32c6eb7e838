"""The load of a run of the senders, and its book: deliveries as the router writes them, one after another."""

import random
import threading
import time
from collections.abc import Iterator, Sequence
from datetime import timedelta
from types import TracebackType
from typing import Self
from uuid import NAMESPACE_OID, uuid5

from confluent_kafka import KafkaError, Message, Producer

from pipeline.adapters.wire.codec import Wire
from pipeline.adapters.wire.ids import LockFile
from pipeline.model.delivery import Delivery, delivery_id
from pipeline.model.event import LANES, Channel, Event, user_key
from pipeline.model.profile import Address, Profile
from pipeline.model.topics import deliver
from pipeline.wiring import clock
from tests.faults.sender_books import Planned

_TENANT = "acme"
_USERS = 400
_TICK = 0.05  # seconds between two bursts
_WEIGHTS = (1, 8, 1)  # of the lanes: urgent, normal, bulk
_FLIGHT = {
    "flight": "UA 1018",
    "carrier": "United",
    "origin": "EWR",
    "destination": "IAH",
    "scheduled": "05:25",
}
_WIRE = Wire(LockFile())


def profiles(channels: Sequence[Channel]) -> Iterator[Profile]:
    """Everybody, with an address on each channel."""
    registered = clock() - timedelta(days=1)
    for user in range(_USERS):
        addresses = (
            Address(
                address_id=_address_id(user, channel),
                channel=channel,
                value=_address(user, channel),
                registered_at=registered,
            )
            for channel in channels
        )
        yield Profile(tenant=_TENANT, user_id=f"u-{user}", version=1, addresses=tuple(addresses))


def _address_id(user: int, channel: Channel) -> str:
    return str(uuid5(NAMESPACE_OID, f"{user}/{channel}"))


def _address(user: int, channel: Channel) -> str:
    return f"{user:064x}" if channel == "apns" else f"+4477009{user:05}"


class Load:
    """A thread that writes deliveries at a steady rate while the block runs. Its book is read from other threads."""

    def __init__(self, servers: str, channels: Sequence[Channel], *, rate: int, seed: int) -> None:
        """`rate`: deliveries a second of all channels together."""
        self.book: list[Planned] = []  # acknowledged
        self.at: dict[str, float] = {}  # by delivery id: when it was handed over
        self._servers = servers
        self._channels = channels
        self._burst = rate * _TICK
        self._chance = random.Random(seed)
        self._made = 0
        self._failures: list[str] = []
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="load")

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop.set()
        self._thread.join()

    def finish(self) -> None:
        """Write no more, and wait until all is acknowledged. AssertionError when it isn't."""
        self._stop.set()
        self._thread.join()
        assert not self._failures, f"{len(self._failures)} records were not accepted: {self._failures[0]}"

    def _run(self) -> None:
        producer = Producer(
            {
                "bootstrap.servers": self._servers,
                "partitioner": "murmur2_random",
                "enable.idempotence": True,
                "max.in.flight.requests.per.connection": 1,  # decision page 0009
                "message.timeout.ms": 300_000,  # what is handed over outlives every fault of the run
                "linger.ms": 5,
                "log_level": 0,  # it tells of every try while the broker is away
            }
        )
        due, began = 0.0, time.monotonic()
        while not self._stop.wait(max(0.0, began + _TICK - time.monotonic())):
            began = time.monotonic()
            due += self._burst
            while due >= 1:
                due -= 1
                self._write(producer)
            producer.poll(0)
        if left := producer.flush(120):
            self._failures += ["no answer within 120 s"] * left

    def _write(self, producer: Producer) -> None:
        made = self._next()
        self.at[made.delivery_id] = at = time.monotonic()

        def acknowledged(error: KafkaError | None, message: Message) -> None:
            partition = message.partition()
            if error is not None or partition is None:
                self._failures.append("acknowledged without a place" if error is None else error.str())
                return
            planned = Planned(delivery_id=made.delivery_id, channel=made.channel, partition=partition, at=at)
            self.book.append(planned)

        key = user_key(made.tenant, made.user_id)
        producer.produce(deliver(made.channel, made.lane), _WIRE.encode(made), key, on_delivery=acknowledged)

    def _next(self) -> Delivery:
        self._made += 1
        channel = self._channels[self._made % len(self._channels)]
        user, (lane,) = self._chance.randrange(_USERS), self._chance.choices(LANES, _WEIGHTS)
        now = clock()
        event = Event(
            event_id=f"e-{self._made}",
            user_id=f"u-{user}",
            tenant=_TENANT,
            type="flight.cancelled",
            priority=lane,
            created_at=now,
            data=_FLIGHT,
        )
        address_id = _address_id(user, channel)
        return Delivery(
            delivery_id=delivery_id(_TENANT, event.user_id, event.event_id, channel, address_id),
            event_id=event.event_id,
            user_id=event.user_id,
            tenant=_TENANT,
            type=event.type,
            category="flights",
            channel=channel,
            lane=lane,
            address_id=address_id,
            address=_address(user, channel),
            locale="en",
            template_version=1,
            decided_at=now,
            event=_WIRE.encode(event),
        )
