"""The router's state: one memory per partition number, rebuilt from the decisions topic."""

from collections.abc import Callable, Iterable, Sequence
from datetime import datetime

from pipeline.model.decision import Decision
from pipeline.observe import Log
from pipeline.ports import Clock, Codec
from pipeline.stages.route.decide import Source
from pipeline.stages.route.memory import WINDOW, Memory

ReadBack = Callable[[Sequence[int], datetime], Iterable[bytes]]
"""The values of the decisions topic in these partitions, written since then."""

_log = Log(__name__)


class RouterState:
    """What this process knows of the partitions that it owns."""

    def __init__(self, wire: Codec, read_back: ReadBack, clock: Clock) -> None:
        self._wire = wire
        self._read_back = read_back
        self._clock = clock
        self._memories: dict[int, Memory] = {}

    def restore(self, partitions: Sequence[int]) -> None:
        """Forget everything, then read these partitions back.

        Raises DependencyDown when Kafka or the registry is away, and Unreadable when a decision cannot
        be read: going on without it could send twice.
        """
        self._memories = {partition: Memory() for partition in partitions}
        count = 0
        for value in self._read_back(partitions, self._clock() - WINDOW):
            self.learn((self._wire.decode(Decision, value),))
            count += 1
        _log.info("state.restored", partitions=list(partitions), decisions=count)

    def next_offset(self, topic: str, partition: int) -> int:
        """The first offset of the topic's partition that has no decision."""
        return self._memories[partition].next_offset(topic)

    def decided_by(self, partition: int, id: bytes) -> Source | None:
        """The record that decided the id before, if any."""
        return self._memories[partition].decided_by(id)

    def learn(self, decisions: Iterable[Decision]) -> None:
        """Take in decisions that are committed."""
        for decision in decisions:
            self._memories[decision.source_partition].learn(decision)
