"""The load of a fault run, and its book: what was published, written down apart from the product.

One record in ten repeats an id that was published before, sometimes on another lane. Who must hear of an
event follows from the number of its user alone.
"""

import random
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from types import TracebackType
from typing import Self

from confluent_kafka import KafkaError, Message, Producer

from pipeline.adapters.wire.codec import Wire
from pipeline.adapters.wire.ids import LockFile
from pipeline.model.event import CHANNELS, LANES, Channel, Event
from pipeline.model.profile import Profile
from pipeline.model.topics import events
from pipeline.wiring import clock
from tests.faults.books import Published
from tests.support.make import profile

TENANT = "acme"
USERS = 400
_TICK = 0.05  # seconds between two bursts: small enough to time by, large enough for a batch
_REPEATS = 0.1
_RECENT = 2_000  # a repeat is one of the last so many: of the same batch, or of minutes ago
_WEIGHTS = (1, 8, 1)  # of the lanes: urgent, normal, bulk
_FLIGHT = {
    "flight": "UA 1018",
    "carrier": "United",
    "origin": "EWR",
    "destination": "IAH",
    "scheduled": "05:25",
}
_WIRE = Wire(LockFile())


def channels(user: int) -> tuple[Channel, ...]:
    """Where a user has an address: from none to all five."""
    return tuple(channel for bit, channel in enumerate(CHANNELS) if user * 2654435761 >> 9 & 1 << bit)


def profiles() -> Iterator[Profile]:
    """Everybody."""
    return (profile(_name(user), channels(user), tenant=TENANT) for user in range(USERS))


def _name(user: int) -> str:
    return f"u-{user}"


@dataclass(frozen=True, slots=True)
class _Made:
    event_id: str
    user: int


class Load:
    """A thread that publishes at a steady rate while the block runs. Its book is read from other threads."""

    def __init__(self, servers: str, *, rate: int, seed: int) -> None:
        self.book: list[Published] = []  # acknowledged, in order of acknowledgement
        self.first_at: dict[str, float] = {}  # by event id: when its first record was handed over
        self._servers = servers
        self._burst = rate * _TICK
        self._chance = random.Random(seed)
        self._made: list[_Made] = []
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
        """Publish no more, and wait until all is acknowledged. AssertionError when it isn't."""
        self._stop.set()
        self._thread.join()
        assert not self._failures, f"{len(self._failures)} records were not accepted: {self._failures[0]}"

    def _run(self) -> None:
        producer = Producer(
            {
                "bootstrap.servers": self._servers,
                "partitioner": "murmur2_random",
                # One request at a time: of several to a partition that is being made, the first was refused, the
                # second taken, and the first, sent again, acknowledged as known though it lay nowhere.
                "enable.idempotence": True,
                "max.in.flight.requests.per.connection": 1,
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
                self._publish(producer)
            producer.poll(0)
        if left := producer.flush(120):
            self._failures += ["no answer within 120 s"] * left

    def _publish(self, producer: Producer) -> None:
        made, (lane,) = self._next(), self._chance.choices(LANES, _WEIGHTS)
        event = Event(
            event_id=made.event_id,
            user_id=_name(made.user),
            tenant=TENANT,
            type="flight.cancelled",
            priority=lane,
            created_at=clock(),
            data=_FLIGHT,
        )
        at = time.monotonic()
        self.first_at.setdefault(made.event_id, at)
        wanted = frozenset[str](channels(made.user))

        def acknowledged(error: KafkaError | None, message: Message) -> None:
            topic, partition, offset = message.topic(), message.partition(), message.offset()
            if error is not None or topic is None or partition is None or offset is None:
                self._failures.append("acknowledged without a place" if error is None else error.str())
                return
            position = (topic, partition, offset)
            self.book.append(Published(event_id=made.event_id, channels=wanted, position=position, at=at))

        producer.produce(events(lane), _WIRE.encode(event), event.key, on_delivery=acknowledged)

    def _next(self) -> _Made:
        if self._made and self._chance.random() < _REPEATS:
            return self._chance.choice(self._made[-_RECENT:])
        made = _Made(f"e-{len(self._made)}", self._chance.randrange(USERS))
        self._made.append(made)
        return made
