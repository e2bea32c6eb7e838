"""Which offsets may be committed while records end out of order. Pure: no client, no clock.

Kafka knows one number a partition: everything below it is done. Records that are sent at once end
in any order, so the number may only move over a run without holes. A partition that is taken away
and comes back starts over under a new assignment number; what was read under an older one can no
longer move it, or the records between would never be read again.
"""

from collections import deque
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

Partition = tuple[str, int]  # (topic, number)


@dataclass(slots=True)
class _Open:
    """One assigned partition."""

    assignment: int
    order: deque[int] = field(
        default_factory=deque[int]
    )  # offsets as fetched, ascending, not yet committable
    open: set[int] = field(default_factory=set[int])  # those of them that are not done
    left: set[int] = field(default_factory=set[int])  # not done, and nobody works on them: a hole for good
    next: int | None = None  # everything fetched below it is done; None: nothing yet
    committed: int | None = None


class Tracker:
    """The open offsets of every assigned partition."""

    def __init__(self) -> None:
        self._assignments = 0
        self._open: dict[Partition, _Open] = {}

    def assign(self, partitions: Iterable[Partition]) -> None:
        """These partitions are ours from here on, and nothing of them has been read yet."""
        self._assignments += 1
        for partition in partitions:
            self._open[partition] = _Open(assignment=self._assignments)

    def revoke(self, partitions: Iterable[Partition]) -> None:
        """These partitions are no longer ours."""
        for partition in partitions:
            self._open.pop(partition, None)

    def assigned(self) -> tuple[Partition, ...]:
        """The partitions that are ours."""
        return tuple(self._open)

    def fetched(self, partition: Partition, offset: int) -> int | None:
        """Note a record that was read; the number of its assignment, or None when it is not ours."""
        state = self._open.get(partition)
        if state is None:
            return None
        state.order.append(offset)
        state.open.add(offset)
        return state.assignment

    def owns(self, partition: Partition, assignment: int) -> bool:
        """Whether a record read under this assignment is still ours."""
        state = self._open.get(partition)
        return state is not None and state.assignment == assignment

    def done(self, partition: Partition, offset: int, assignment: int) -> None:
        """What came of the record is durable. A second time, or too late, it changes nothing."""
        state = self._mine(partition, offset, assignment)
        if state is None:
            return
        state.open.discard(offset)
        state.left.discard(offset)
        while state.order and state.order[0] not in state.open:
            state.next = state.order.popleft() + 1

    def abandon(self, partition: Partition, offset: int, assignment: int) -> None:
        """Nobody works on the record any more; it stays open, and the next owner reads it again."""
        state = self._mine(partition, offset, assignment)
        if state is not None:
            state.left.add(offset)

    def busy(self) -> int:
        """How many records somebody works on."""
        return sum(len(state.open) - len(state.left) for state in self._open.values())

    def committable(self) -> dict[Partition, int]:
        """The offsets that may be committed and are not yet: the next one to read, by partition."""
        return {
            partition: state.next
            for partition, state in self._open.items()
            if state.next is not None and state.next != state.committed
        }

    def committed(self, offsets: Mapping[Partition, int]) -> None:
        """Kafka has taken these offsets."""
        for partition, offset in offsets.items():
            state = self._open.get(partition)
            if state is not None:
                state.committed = offset

    def _mine(self, partition: Partition, offset: int, assignment: int) -> _Open | None:
        state = self._open.get(partition)
        if state is None or state.assignment != assignment or offset not in state.open:
            return None
        return state
