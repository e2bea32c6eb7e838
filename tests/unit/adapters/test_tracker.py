"""The tracker against a plain model of what Kafka would deliver again."""

from dataclasses import dataclass, field

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, initialize, invariant, rule

from pipeline.adapters.kafka.tracker import FAR, Done, Partition, Tracker, ahead_of

A: Partition = ("t", 0)
B: Partition = ("t", 1)


def test_offset_moves_over_a_run_without_holes() -> None:
    """What is done above a hole does not count until the hole is filled."""
    tracker = Tracker()
    tracker.assign([A])
    epochs = {offset: tracker.fetched(A, offset) for offset in (5, 6, 9)}
    assert set(epochs.values()) == {1}
    assert tracker.committable() == {}
    tracker.done(A, 9, 1)
    tracker.done(A, 6, 1)
    assert tracker.committable() == {A: Done(5, 0b10010)}
    tracker.done(A, 5, 1)
    assert tracker.committable() == {A: Done(10)}
    tracker.committed({A: Done(10)})
    assert tracker.committable() == {}


def test_what_is_done_beyond_a_hole_is_not_done_again() -> None:
    """The next owner is given the hole, and passes over what was done beyond it."""
    tracker = Tracker()
    tracker.assign([A])
    tracker.learn(A, Done(5, 0b10010))
    assert [tracker.fetched(A, offset) for offset in (5, 6, 9, 10)] == [1, None, None, 1]
    assert tracker.busy() == 2
    tracker.done(A, 10, 1)
    assert tracker.committable() == {A: Done(5, 0b110010)}
    tracker.done(A, 5, 1)
    assert tracker.committable() == {A: Done(11)}


def test_a_topic_that_was_made_anew_is_read_from_its_beginning() -> None:
    """Offsets below what was committed are new records, and nothing is known of them."""
    tracker = Tracker()
    tracker.assign([A])
    tracker.learn(A, Done(100, 0b10))
    assert [tracker.fetched(A, offset) for offset in (0, 1)] == [1, 1]
    tracker.done(A, 0, 1)
    assert tracker.committable() == {A: Done(1)}


@given(st.integers(0, 1 << 40), st.sets(st.integers(0, FAR - 1)))
def test_metadata_brings_back_what_was_done(next: int, ahead: set[int]) -> None:
    """Whatever is done ahead fits what a broker takes, and is read back as it was."""
    done = Done(next, sum(1 << one for one in ahead))
    assert ahead_of(done.metadata()) == done.ahead
    assert len(done.metadata()) <= 4096


@pytest.mark.parametrize("metadata", ["", "words of somebody else", "ahead1:***", "ahead1:"])
def test_metadata_of_others_says_nothing(metadata: str) -> None:
    """A group's offsets may have been set by hand, with any words beside them."""
    assert ahead_of(metadata) == 0


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
    assert (tracker.committable(), tracker.busy()) == ({A: Done(0, 0b100)}, 1)
    tracker.done(A, 0, 1)
    assert (tracker.committable(), tracker.busy()) == ({A: Done(1, 0b10)}, 0)


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

    committed: Done = Done(0)  # noqa: RUF009 - a tuple
    position: int = 0
    assignment: int | None = None
    durable: set[int] = field(default_factory=set[int])  # under any assignment
    counted: set[int] = field(default_factory=set[int])  # under the present assignment, or known from before
    read: list[int] = field(default_factory=list[int])  # under the present assignment, in order
    learned: bool = False  # whether the present owner knows all that is committed

    def next(self) -> int:
        """The offset that may be committed: after the longest run of what was read and is done."""
        found = self.committed.next
        for offset in self.read:
            if offset not in self.counted:
                break
            found = max(found, offset + 1)
        return found

    def known(self) -> set[int]:
        """The offsets that Kafka's metadata calls done."""
        next, ahead = self.committed
        return {next + n for n in range(ahead.bit_length()) if ahead >> n & 1}


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
        self.rebalance({A, B}, learns=True)

    @rule(partitions=st.sets(st.sampled_from([A, B])), learns=st.booleans())
    def rebalance(self, partitions: set[Partition], *, learns: bool) -> None:
        """All are taken, some come back, and are read on from what is committed, which may not be learned."""
        self.tracker.revoke([A, B])
        self.assignments += 1
        self.tracker.assign(partitions)
        self.busy = set()
        for partition, model in self.models.items():
            model.assignment = self.assignments if partition in partitions else None
            model.position = model.committed.next
            model.counted, model.read, model.learned = set(), [], learns
            if learns:
                self.tracker.learn(partition, model.committed)
                model.counted = model.known()

    @rule(target=reads, partition=st.sampled_from([A, B]), gap=st.integers(0, 2))
    def fetch(self, partition: Partition, gap: int) -> Read:
        """The next record, perhaps behind a gap (a transaction's marker)."""
        model = self.models[partition]
        offset = model.position + gap
        assignment = self.tracker.fetched(partition, offset)
        if model.assignment is None:
            assert assignment is None
            return Read(partition, offset, -1)
        model.position = offset + 1
        model.read.append(offset)
        if offset in model.counted:
            assert assignment is None, "done before, and not to be done again"
            return Read(partition, offset, -1)
        assert assignment is not None
        assert assignment == model.assignment
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
        for partition, done in offsets.items():
            assert done.next >= self.models[partition].committed.next
            self.models[partition].committed, self.models[partition].learned = done, True
        self.tracker.committed(offsets)
        assert self.tracker.committable() == {}

    @invariant()
    def nothing_undone_is_passed_over(self) -> None:
        """No record is skipped, neither below the offset nor by what is noted beyond it."""
        for partition, model in self.models.items():
            below = {offset for offset in model.read if offset < model.committed.next}
            assert below | model.known() <= model.durable, partition

    @invariant()
    def offers_the_longest_run(self) -> None:
        """No progress is withheld, and everything that is done beyond the first hole is noted."""
        offered = self.tracker.committable()
        for partition, model in self.models.items():
            done = offered.get(partition, model.committed)
            assert done.next >= model.next() if model.assignment is not None else done == model.committed
            if model.assignment is not None and (partition in offered or model.learned):
                beyond = {offset for offset in model.counted if offset >= done.next}
                assert beyond == Model(committed=done).known()

    @invariant()
    def counts_what_is_worked_on(self) -> None:
        """A revoke waits for exactly what is out."""
        assert self.tracker.busy() == len(self.busy)


TestOffsets = Offsets.TestCase
TestOffsets.settings = settings(max_examples=200)
