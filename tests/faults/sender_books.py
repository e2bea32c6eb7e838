"""What was planned against what the providers got and what the outcomes say: set arithmetic, nothing decided.

planned    from the load generator's own book
received   from the local providers' own book: every request that they read
told       every outcome on its topic
notes      what each sender had in flight when it was killed or put to sleep
"""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

from connectors.sandbox.record import Received
from pipeline.model.event import Channel
from pipeline.model.outcome import FINAL, Outcome

# By what a provider or a device knows a repeat, and what differs from one attempt to the next anyway.
_MARKS: Mapping[str, frozenset[str]] = {
    "apns": frozenset({"apns-id", "apns-collapse-id"}),
    "vonage": frozenset({"client-ref"}),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Planned:
    """One delivery that a sender is to make."""

    delivery_id: str
    channel: Channel
    partition: int
    at: float  # when it was handed to the producer, in seconds of the monotonic clock


@dataclass(frozen=True, slots=True, kw_only=True)
class Note:
    """What a sender had in flight when it was broken."""

    act: str  # kill or stop
    ids: frozenset[str]


@dataclass(frozen=True, kw_only=True)
class Books:
    """The books of a run, and what is wrong between them."""

    planned: Sequence[Planned]
    received: Sequence[Received]
    told: Sequence[Outcome]
    notes: Sequence[Note]

    @cached_property
    def untold(self) -> frozenset[str]:
        """Planned deliveries without a final outcome."""
        final = {one.delivery_id for one in self.told if one.state in FINAL}
        return frozenset(one.delivery_id for one in self.planned) - final

    @cached_property
    def claimed(self) -> frozenset[str]:
        """Called delivered, and no provider ever took them."""
        return frozenset(one.delivery_id for one in self.told if one.state == "delivered") - set(self._rang)

    @cached_property
    def given_up(self) -> frozenset[str]:
        """Dead, and it was not for an answer that is missing."""
        wrong = (one for one in self.told if one.state == "dead" and one.outcome != "uncertain")
        return frozenset(one.delivery_id for one in wrong)

    @cached_property
    def invented(self) -> frozenset[str]:
        """What a provider got and nobody planned."""
        return frozenset(one.delivery_id for one in self.received) - {one.delivery_id for one in self.planned}

    @cached_property
    def other_identity(self) -> frozenset[str]:
        """Deliveries whose requests do not all carry the same marks."""
        seen: dict[str, set[tuple[tuple[str, str], ...]]] = {}
        for row in self.received:
            marks = sorted((name, row.identity.get(name, "")) for name in _MARKS[row.provider])
            seen.setdefault(row.delivery_id, set()).add(tuple(marks))
        return frozenset(id for id, marks in seen.items() if len(marks) > 1)

    @cached_property
    def unexplained(self) -> Counter[str]:
        """How often a device was reached once more than a kill in flight or a missing answer explains."""
        explained = Counter(id for note in self.notes for id in note.ids)
        explained.update(one.delivery_id for one in self.told if one.outcome == "uncertain")
        return Counter({id: n for id, again in self._again() if (n := again - explained[id]) > 0})

    @property
    def lost(self) -> int:
        """Deliveries that nobody can tell the end of, or whose told end did not happen."""
        return len(self.untold) + len(self.claimed)

    @property
    def uncertain_repeats(self) -> int:
        """How often a device was reached again because the answer to the first request was missing."""
        missing = Counter(one.delivery_id for one in self.told if one.outcome == "uncertain")
        return sum(min(again, missing[id]) for id, again in self._again())

    @property
    def repeats(self) -> int:
        """How often a device was reached again for another reason: it was in flight when its sender died."""
        return sum(again for _, again in self._again()) - self.uncertain_repeats

    @property
    def in_flight(self) -> int:
        """How many deliveries were in flight at all kills together."""
        return sum(len(note.ids) for note in self.notes)

    def _again(self) -> Iterator[tuple[str, int]]:
        return ((id, times - 1) for id, times in self._rang.items() if times > 1)

    @cached_property
    def _rang(self) -> Counter[str]:
        return Counter(row.delivery_id for row in self.received if row.accepted)
