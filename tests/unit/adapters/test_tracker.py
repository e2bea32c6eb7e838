"""The tracker against a plain model of what Kafka would deliver again."""

from dataclasses import dataclass, field

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, initialize, invariant, rule

from pipeline.adapters.kafka.tracker import Partition, Tracker

A: Partition = ("t", 0)
B: Partition = ("t", 1)


def test_offset_moves_over_a_run_without_holes() -> None:
    """What is done above a hole does not count until the hole is filled."""
    tracker = Tracker()
    tracker.assign([A])
    epochs = {offset: tracker.fetched(A, offset) for offset in (5, 6, 9)}
    assert set(epochs.values()) == {1}
    tracker.done(A, 9, 1)
    tracker.done(A, 6, 1)
    assert tracker.committable() == {}
    tracker.done(A, 5, 1)
    assert tracker.committable() == {A: 10}
    tracker.committed({A: 10})
    assert tracker.committable() == {}


def test_late_completion_moves_nothing() -> None:
    """A record of an earlier assignment cannot move the offset of the present one."""
    tracker = Tracker()
    tracker.assign([A])
    tracker.fetched(A, 0)
    tracker.revoke([A])
    tracker.done(A, 0, 1)
    tracker.assign([A])
    tracker.fetched(A, 0)
    tracker.done(A, 0, 1)
    assert tracker.committable() == {}
    assert not tracker.owns(A, 1)
    assert tracker.owns(A, 2)


def test_what_is_given_back_is_a_hole() -> None:
    """An abandoned record is nobody's work, and the offset never passes it under this assignment."""
    tracker = Tracker()
    tracker.assign([A])
    for offset in (0, 1, 2):
        tracker.fetched(A, offset)
    tracker.abandon(A, 1, 1)
    tracker.done(A, 2, 1)
    assert (tracker.committable(), tracker.busy()) == ({}, 1)
    tracker.done(A, 0, 1)
    assert (tracker.committable(), tracker.busy()) == ({A: 1}, 0)


def test_what_is_not_ours_is_not_noted() -> None:
    """A record that was fetched just before a revoke is not taken up."""
    assert Tracker().fetched(A, 0) is None


@dataclass
class Read:
    """A record in somebody's hands."""

    partition: Partition
    offset: int
    assignment: int


@dataclass
class Model:
    """One partition as Kafka sees it: where the group reads on, and all that is durable."""

    committed: int = 0
    position: int = 0
    assignment: int | None = None
    durable: set[int] = field(default_factory=set[int])  # under any assignment
    counted: set[int] = field(default_factory=set[int])  # under the present assignment
    read: list[int] = field(default_factory=list[int])  # under the present assignment, in order

    def next(self) -> int | None:
        """The offset that may be committed: after the longest run of what was read and is done."""
        found = None
        for offset in self.read:
            if offset not in self.counted:
                break
            found = offset + 1
        return found


class Offsets(RuleBasedStateMachine):
    """Assign, fetch with gaps, finish in any order and as late as one likes, give back, commit, revoke."""

    reads: Bundle[Read] = Bundle("reads")

    def __init__(self) -> None:
        super().__init__()
        self.tracker = Tracker()
        self.models = {A: Model(), B: Model()}
        self.assignments = 0
        self.busy: set[tuple[Partition, int, int]] = set()

    @initialize()
    def start(self) -> None:
        """Both are ours."""
        self.rebalance({A, B})

    @rule(partitions=st.sets(st.sampled_from([A, B])))
    def rebalance(self, partitions: set[Partition]) -> None:
        """All are taken, some come back, and are read on from what is committed."""
        self.tracker.revoke([A, B])
        self.assignments += 1
        self.tracker.assign(partitions)
        self.busy = set()
        for partition, model in self.models.items():
            model.assignment = self.assignments if partition in partitions else None
            model.position = model.committed
            model.counted, model.read = set(), []

    @rule(target=reads, partition=st.sampled_from([A, B]), gap=st.integers(0, 2))
    def fetch(self, partition: Partition, gap: int) -> Read:
        """The next record, perhaps behind a gap (a transaction's marker)."""
        model = self.models[partition]
        offset = model.position + gap
        assignment = self.tracker.fetched(partition, offset)
        assert assignment == model.assignment
        if assignment is None:
            return Read(partition, offset, -1)
        model.position = offset + 1
        model.read.append(offset)
        self.busy.add((partition, offset, assignment))
        return Read(partition, offset, assignment)

    @rule(read=reads)
    def done(self, read: Read) -> None:
        """Durable, at any time, also twice."""
        self.tracker.done(read.partition, read.offset, read.assignment)
        model = self.models[read.partition]
        if read.assignment != -1:
            model.durable.add(read.offset)
        if read.assignment == model.assignment:
            model.counted.add(read.offset)
        self.busy.discard((read.partition, read.offset, read.assignment))

    @rule(read=consumes(reads))
    def abandon(self, read: Read) -> None:
        """Given back."""
        self.tracker.abandon(read.partition, read.offset, read.assignment)
        self.busy.discard((read.partition, read.offset, read.assignment))

    @rule()
    def commit(self) -> None:
        """Kafka takes what is offered."""
        offsets = self.tracker.committable()
        for partition, offset in offsets.items():
            assert offset > self.models[partition].committed
            self.models[partition].committed = offset
        self.tracker.committed(offsets)

    @invariant()
    def nothing_below_the_offset_is_undone(self) -> None:
        """No record is skipped."""
        for partition, model in self.models.items():
            below = {offset for offset in model.read if offset < model.committed}
            assert below <= model.durable, partition

    @invariant()
    def offers_the_longest_run(self) -> None:
        """No progress is withheld."""
        offered = self.tracker.committable()
        for partition, model in self.models.items():
            expected = None if model.assignment is None else model.next()
            assert offered.get(partition, model.committed) == (expected or model.committed)

    @invariant()
    def counts_what_is_worked_on(self) -> None:
        """A revoke waits for exactly what is out."""
        assert self.tracker.busy() == len(self.busy)


TestOffsets = Offsets.TestCase
TestOffsets.settings = settings(max_examples=200)
