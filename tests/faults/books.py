"""What was published against what came out: set arithmetic that shares nothing with what decides.

published   from the load generator's own book, each with the channels that its user has
decided     every committed decision
delivered   every committed record of the topics that the senders read
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TypeVar

T = TypeVar("T")
Position = tuple[str, int, int]  # topic, partition, offset


@dataclass(frozen=True, slots=True, kw_only=True)
class Published:
    """One acknowledged record."""

    event_id: str
    channels: frozenset[str]  # where its user must hear of it
    position: Position
    at: float  # when it was handed to the producer, in seconds of the monotonic clock


@dataclass(frozen=True, slots=True, kw_only=True)
class Decided:
    """One decision, as it lies on its topic."""

    event_id: str
    duplicate: bool
    position: Position  # of the record that it decides
    deliveries: tuple[str, ...] = ()  # ids of what it planned


@dataclass(frozen=True, slots=True, kw_only=True)
class Delivered:
    """One record for a sender."""

    delivery_id: str
    event_id: str
    channel: str


@dataclass(frozen=True, kw_only=True)
class Books:
    """The three books of a run, and what is wrong between them."""

    published: Sequence[Published]
    decided: Sequence[Decided]
    delivered: Sequence[Delivered]

    @cached_property
    def undecided(self) -> frozenset[Position]:
        """Published records without a decision, or with one about another event only."""
        about = {(one.position, one.event_id) for one in self.decided}
        return frozenset(one.position for one in self.published if (one.position, one.event_id) not in about)

    @cached_property
    def unsettled(self) -> frozenset[str]:
        """Event ids of which every decision says that it is a duplicate, or that have none at all."""
        return frozenset(one.event_id for one in self.published) - set(self._firsts)

    @cached_property
    def missing(self) -> frozenset[tuple[str, str]]:
        """What must be delivered, as (event id, channel), and is not."""
        return self._wanted - set(self._reached)

    @cached_property
    def decided_again(self) -> frozenset[Position]:
        """Positions that have more than one decision."""
        return _repeated(Counter(one.position for one in self.decided))

    @cached_property
    def settled_again(self) -> frozenset[str]:
        """Event ids of which more than one decision says that it is the first."""
        return _repeated(self._firsts)

    @cached_property
    def invented(self) -> frozenset[Position]:
        """Positions that are decided and were never published."""
        return frozenset(one.position for one in self.decided) - set(self._by_position)

    @cached_property
    def reached_again(self) -> frozenset[tuple[str, str]]:
        """What is delivered more than once, as (event id, channel), under whatever delivery id."""
        return _repeated(self._reached)

    @cached_property
    def unplanned(self) -> frozenset[str]:
        """Delivery ids that no decision planned, or that nobody was to receive."""
        planned = {id for one in self.decided for id in one.deliveries}
        return frozenset(
            one.delivery_id
            for one in self.delivered
            if one.delivery_id not in planned or (one.event_id, one.channel) not in self._wanted
        )

    @property
    def lost(self) -> int:
        """Records without a decision, ids without a first decision, deliveries that are not there."""
        return len(self.undecided) + len(self.unsettled) + len(self.missing)

    @property
    def decided_twice(self) -> int:
        """Records with more than one decision, ids with more than one first, decisions about nothing."""
        return len(self.decided_again) + len(self.settled_again) + len(self.invented)

    @property
    def repeats(self) -> int:
        """How many records for senders are further copies of a delivery id."""
        times = Counter(one.delivery_id for one in self.delivered)
        return times.total() - len(times)

    @property
    def double(self) -> int:
        """Deliveries that somebody would get twice, or was never to get."""
        return len(self.reached_again | {("", id) for id in self.unplanned})

    def lost_at(self) -> list[float]:
        """When what is lost was published, once for each of it."""
        of_id: dict[str, float] = {}
        for one in self.published:
            of_id.setdefault(one.event_id, one.at)
        ids = (*self.unsettled, *(event_id for event_id, _ in self.missing))
        return [self._by_position[p].at for p in self.undecided] + [of_id[id] for id in ids]

    def twice_at(self) -> list[float]:
        """When what is decided twice was published, once for each of it; what was never published is left out."""
        of_id = {one.event_id: one.at for one in self.published}
        known = [self._by_position[p].at for p in self.decided_again if p in self._by_position]
        return known + [of_id[id] for id in self.settled_again if id in of_id]

    @cached_property
    def _by_position(self) -> Mapping[Position, Published]:
        return {one.position: one for one in self.published}

    @cached_property
    def _firsts(self) -> Counter[str]:
        return Counter(one.event_id for one in self.decided if not one.duplicate)

    @cached_property
    def _wanted(self) -> frozenset[tuple[str, str]]:
        return frozenset((one.event_id, channel) for one in self.published for channel in one.channels)

    @cached_property
    def _reached(self) -> Counter[tuple[str, str]]:
        return Counter((one.event_id, one.channel) for one in self.delivered)


def _repeated(times: Counter[T]) -> frozenset[T]:
    return frozenset(what for what, count in times.items() if count > 1)
