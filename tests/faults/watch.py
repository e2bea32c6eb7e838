"""A reader of what a stage writes that is there all the time: it tells when the stage works again.

It is also a witness of its own: what it was handed while the faults happened must be what a reader
finds afterwards.
"""

import threading
import time
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from types import TracebackType
from typing import Generic, Self, TypeVar

from confluent_kafka import OFFSET_BEGINNING, Consumer, TopicPartition

from pipeline.adapters.wire.codec import Wire
from pipeline.adapters.wire.ids import LockFile
from pipeline.model.decision import Decision
from pipeline.model.topics import DECISIONS
from tests.faults.books import Decided

_WIRE = Wire(LockFile())
T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class Sighting(Generic[T]):
    """A record that was read."""

    what: T
    place: object  # what is seen to work by it
    at: float  # when that was asked of it, in seconds of the monotonic clock


def decided(value: bytes | None) -> Decided:
    """What the books hold of a decision."""
    found = _WIRE.decode(Decision, value)
    return Decided(
        event_id=found.event_id,
        duplicate=found.verdict == "duplicate",
        position=(found.source_topic, found.source_partition, found.source_offset),
        deliveries=tuple(planned.delivery_id for planned in found.deliveries),
    )


def decisions(servers: str, *, partitions: int, first_at: Mapping[str, float]) -> "Watch[Decided]":
    """A watch over the routers. `first_at`: when an event id was first published, on the monotonic clock."""

    def read(value: bytes | None) -> Sighting[Decided]:
        found = decided(value)
        at = 0.0 if found.duplicate else first_at.get(found.event_id, 0.0)
        return Sighting(what=found, place=found.position[1], at=at)

    return Watch(servers, DECISIONS, partitions=partitions, places=range(partitions), read=read)


class Watch(Generic[T]):
    """A thread that reads every committed record of a topic while the block runs."""

    def __init__(
        self,
        servers: str,
        topic: str,
        *,
        partitions: int,
        places: Collection[object],
        read: Callable[[bytes | None], Sighting[T]],
    ) -> None:
        """`places`: everything that is to be seen to work."""
        self.seen: list[T] = []
        self._read = read
        self._topic = topic
        self._partitions = range(partitions)
        self._latest = dict.fromkeys(places, 0.0)  # when the latest work that was seen done was asked for
        self._changed = threading.Condition()
        self._stop = threading.Event()
        self._servers = servers
        self._thread = threading.Thread(target=self._run, name="watch")

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop.set()
        self._thread.join()

    def serving(self, after: float, timeout: float) -> float:
        """When every place had done what was asked of it after this moment.

        Waits for it; AssertionError after `timeout` seconds.
        """
        with self._changed:
            there = self._changed.wait_for(lambda: min(self._latest.values()) > after, timeout)
            behind = {place: round(after - at, 1) for place, at in self._latest.items() if at <= after}
            assert there, f"not within {timeout} s: {behind} (seconds behind) do nothing new"
            return time.monotonic()

    def reach(self, count: int, patience: float) -> bool:
        """Wait for so many records; False when none came for `patience` seconds before that."""
        with self._changed:
            while (before := len(self.seen)) < count:
                if not self._changed.wait_for(lambda seen=before: len(self.seen) > seen, patience):
                    return False
            return True

    def _run(self) -> None:
        consumer = Consumer(
            {
                "bootstrap.servers": self._servers,
                "group.id": "watch",  # required by the client; never joined
                "enable.auto.commit": False,
                "isolation.level": "read_committed",
                "fetch.wait.max.ms": 20,
                "reconnect.backoff.max.ms": 250,  # it must be back before the routers are
                "log_level": 0,  # it tells of every try while the broker is away
            }
        )
        try:
            consumer.assign([TopicPartition(self._topic, n, OFFSET_BEGINNING) for n in self._partitions])
            while not self._stop.is_set():
                messages = [m for m in consumer.consume(500, 0.02) if m.error() is None]
                if messages:
                    self._note([self._read(message.value()) for message in messages])
        finally:
            consumer.close()

    def _note(self, found: list[Sighting[T]]) -> None:
        with self._changed:
            self.seen += [one.what for one in found]
            for one in found:
                self._latest[one.place] = max(self._latest.get(one.place, 0.0), one.at)
            self._changed.notify_all()
