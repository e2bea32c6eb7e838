"""A reader of the decisions that is there all the time: it tells when the routers decide again.

It is also a witness of its own: what it was handed while the faults happened must be what a reader
finds afterwards.
"""

import threading
import time
from collections.abc import Mapping
from types import TracebackType
from typing import Self

from confluent_kafka import OFFSET_BEGINNING, Consumer, TopicPartition

from pipeline.adapters.wire.codec import Wire
from pipeline.adapters.wire.ids import LockFile
from pipeline.model.decision import Decision
from pipeline.model.topics import DECISIONS
from tests.faults.books import Decided

_WIRE = Wire(LockFile())


def decided(value: bytes | None) -> Decided:
    """What the books hold of a decision."""
    found = _WIRE.decode(Decision, value)
    return Decided(
        event_id=found.event_id,
        duplicate=found.verdict == "duplicate",
        position=(found.source_topic, found.source_partition, found.source_offset),
        deliveries=tuple(planned.delivery_id for planned in found.deliveries),
    )


class Watch:
    """A thread that reads every committed decision while the block runs."""

    def __init__(self, servers: str, *, partitions: int, first_at: Mapping[str, float]) -> None:
        """`first_at`: when an event id was first published, in seconds of the monotonic clock."""
        self.seen: list[Decided] = []
        self._first_at = first_at
        self._latest = dict.fromkeys(range(partitions), 0.0)  # publication of the latest event decided
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
        """When every partition had decided an event that was published after this moment.

        Waits for it; AssertionError after `timeout` seconds.
        """
        with self._changed:
            there = self._changed.wait_for(lambda: min(self._latest.values()) > after, timeout)
            behind = {number: round(after - at, 1) for number, at in self._latest.items() if at <= after}
            assert there, f"not within {timeout} s: partitions {behind} (seconds behind) decide nothing new"
            return time.monotonic()

    def reach(self, count: int, patience: float) -> bool:
        """Wait for so many decisions; False when none came for `patience` seconds before that."""
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
            consumer.assign([TopicPartition(DECISIONS, number, OFFSET_BEGINNING) for number in self._latest])
            while not self._stop.is_set():
                messages = [m for m in consumer.consume(500, 0.02) if m.error() is None]
                if messages:
                    self._note([decided(message.value()) for message in messages])
        finally:
            consumer.close()

    def _note(self, found: list[Decided]) -> None:
        with self._changed:
            self.seen += found
            for one in found:
                if not one.duplicate:
                    number = one.position[1]
                    self._latest[number] = max(self._latest[number], self._first_at.get(one.event_id, 0.0))
            self._changed.notify_all()
