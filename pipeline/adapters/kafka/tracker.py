"""Which offsets may be committed while records end out of order. Pure: no client, no clock.

Kafka knows one number a partition: everything below it is done. Records that are sent at once end
in any order, so the number may only move over a run without holes. What is done beyond the first hole goes
into the metadata that Kafka keeps beside the number, as a bitmap: who reads the partition next does not do it
again. A partition that is taken away and comes back starts over under a new assignment number; what was read
under an older one can no longer move it, or the records between would never be read again.
"""

import base64
import binascii
from collections import deque
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

Partition = tuple[str, int]  # (topic, number)
# Offsets beyond the first hole that are remembered: 4,000 characters, and a broker takes 4,096
# (offset.metadata.max.bytes). What is further ahead is done again after a crash.
FAR = 24_000
_MARK = "ahead1:"  # what begins differently is not ours


class Done(NamedTuple):
    """How far a partition is done."""

    next: int  # everything below it is done
    ahead: int = 0  # bit n: so is offset next + n

    def metadata(self) -> str:
        """What Kafka keeps beside `next`."""
        if not self.ahead:
            return ""
        bits = self.ahead.to_bytes((self.ahead.bit_length() + 7) // 8, "little")
        return _MARK + base64.b64encode(bits).decode()


def ahead_of(metadata: str) -> int:
    """The bitmap that `Done.metadata` wrote; 0 when it says nothing, or is not ours."""
    if not metadata.startswith(_MARK):
        return 0
    try:
        return int.from_bytes(base64.b64decode(metadata[len(_MARK) :], validate=True), "little")
    except binascii.Error:
        return 0


@dataclass(slots=True)
class _Open:
    """One assigned partition."""

    assignment: int
    order: deque[int] = field(
        default_factory=deque[int]
    )  # offsets as fetched, ascending, not yet committable
    open: set[int] = field(default_factory=set[int])  # those of them that are not done
    left: set[int] = field(default_factory=set[int])  # not done, and nobody works on them: a hole for good
    base: int | None = None  # everything fetched below it is done; None: nothing was fetched yet
    ahead: int = 0  # bit n: base + n is done, by us or by an earlier owner
    committed: Done | None = None

    def read(self, offset: int) -> bool:
        """Note a record that was read; whether there is anything left to do."""
        if self.base is None or offset < self.base:  # below: the topic was made anew
            self.base, self.ahead, self.committed = offset, 0, Done(offset)
        self.order.append(offset)
        if self.ahead and self.ahead >> (offset - self.base) & 1:
            self._advance()
            return False
        self.open.add(offset)
        return True

    def finish(self, offset: int) -> None:
        """It is done now."""
        assert self.base is not None, "it was read"
        self.open.discard(offset)
        self.left.discard(offset)
        if self.order[0] not in self.open:
            self._advance()
        elif offset - self.base < FAR:
            self.ahead |= 1 << (offset - self.base)

    def done(self) -> Done | None:
        """What may be committed, if that is anything new."""
        if self.base is None:
            return None
        found = Done(self.base, self.ahead)
        return None if found == self.committed else found

    def _advance(self) -> None:
        """Move over the run without holes."""
        base = self.base or 0
        while self.order and self.order[0] not in self.open:
            base = self.order.popleft() + 1
        self.ahead >>= base - (self.base or 0)
        self.base = base


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

    def learn(self, partition: Partition, done: Done) -> None:
        """What an earlier owner has committed of a partition of which nothing has been read yet."""
        state = self._open.get(partition)
        if state is not None and state.base is None:
            state.base, state.ahead, state.committed = *done, done

    def revoke(self, partitions: Iterable[Partition]) -> None:
        """These partitions are no longer ours."""
        for partition in partitions:
            self._open.pop(partition, None)

    def assigned(self) -> tuple[Partition, ...]:
        """The partitions that are ours."""
        return tuple(self._open)

    def fetched(self, partition: Partition, offset: int) -> int | None:
        """Note a record that was read; the number of its assignment.

        None when the partition is not ours, or the record was done by an earlier owner.
        """
        state = self._open.get(partition)
        if state is None or not state.read(offset):
            return None
        return state.assignment

    def owns(self, partition: Partition, assignment: int) -> bool:
        """Whether a record read under this assignment is still ours."""
        state = self._open.get(partition)
        return state is not None and state.assignment == assignment

    def done(self, partition: Partition, offset: int, assignment: int) -> None:
        """What came of the record is durable. A second time, or too late, it changes nothing."""
        state = self._mine(partition, offset, assignment)
        if state is not None:
            state.finish(offset)

    def abandon(self, partition: Partition, offset: int, assignment: int) -> None:
        """Nobody works on the record any more; it stays open, and the next owner reads it again."""
        state = self._mine(partition, offset, assignment)
        if state is not None:
            state.left.add(offset)

    def busy(self) -> int:
        """How many records somebody works on."""
        return sum(len(state.open) - len(state.left) for state in self._open.values())

    def committable(self) -> dict[Partition, Done]:
        """What may be committed and is not yet, by partition."""
        found = ((partition, state.done()) for partition, state in self._open.items())
        return {partition: done for partition, done in found if done is not None}

    def committed(self, offsets: Mapping[Partition, Done]) -> None:
        """Kafka has taken these."""
        for partition, done in offsets.items():
            state = self._open.get(partition)
            if state is not None:
                state.committed = done

    def _mine(self, partition: Partition, offset: int, assignment: int) -> _Open | None:
        state = self._open.get(partition)
        if state is None or state.assignment != assignment or offset not in state.open:
            return None
        return state
