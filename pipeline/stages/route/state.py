"""The router's state: one memory per partition number, rebuilt from the decisions topic."""

from collections.abc import Callable, Iterable, Sequence
from datetime import datetime

from pipeline.model.decision import Decision
from pipeline.model.event import Channel
from pipeline.observe import Log
from pipeline.ports import Clock, Codec, UserKey
from pipeline.stages.route.facts import Decided
from pipeline.stages.route.memory import WINDOW, Memory

ReadBack = Callable[[Sequence[int], datetime], Iterable[bytes]]
"""The values of the decisions topic in these partitions, written since then."""

_NOTHING = Memory()
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

    def memory(self, partition: int) -> Memory:
        """What is known of one partition number."""
        return self._memories[partition]

    def learn(self, decisions: Iterable[Decision]) -> None:
        """Take in decisions that are committed."""
        for decision in decisions:
            self._memories[decision.source_partition].learn(decision)


class Batch:
    """What is known while a batch is decided: the state, and what the batch has decided before.

    The batch's own decisions are kept apart, so that an abort leaves the state as it was.
    """

    def __init__(self, state: RouterState) -> None:
        self._state = state
        self._own: dict[int, Memory] = {}

    def decided(self, partition: int, id: bytes) -> Decided | None:
        """The latest decision about the id within the window, if any."""
        own = self._own.get(partition, _NOTHING)
        return own.decided(id) or self._state.memory(partition).decided(id)

    def sent(
        self, partition: int, user: UserKey, category: str, channels: Iterable[Channel]
    ) -> dict[Channel, list[datetime]]:
        """When the category reached the user, by channel, oldest first."""
        before, own = self._state.memory(partition), self._own.get(partition, _NOTHING)
        return {
            channel: sorted(before.sent(*user, category, channel) + own.sent(*user, category, channel))
            for channel in channels
        }

    def note(self, decision: Decision) -> None:
        """Take in what the batch has just decided."""
        self._own.setdefault(decision.source_partition, Memory()).learn(decision)
