"""The ledger: accepted = final + in flight, and what is missing has a name.

Pure: figures go in (from Kafka and from PostgreSQL, which are asked apart), the balance comes out.
Events are counted by where their record stands, deliveries by their state.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from datetime import datetime
from typing import Any

from pipeline.model.event import Channel
from pipeline.model.standing import Standing
from pipeline.model.topics import DECISIONS

Position = tuple[str, int]  # topic, partition
_FROM_ZERO: Mapping[Position, int] = {}


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """One record of notification.events.*."""

    topic: str
    partition: int
    offset: int
    event_id: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Hole:
    """Records that were passed over: later ones of their partition are decided, they are not."""

    topic: str
    partition: int
    first: int  # offset
    last: int  # offset, inclusive


@dataclass(frozen=True, slots=True, kw_only=True)
class MissingDelivery:
    """A delivery that a decision planned and the log does not have."""

    delivery_id: str
    event_id: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Parked:
    """An outbox row that Kafka refuses; it waits for an operator."""

    outbox_id: str
    event_id: str
    error: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Decided:
    """How many events were decided with a verdict and reason."""

    verdict: str
    reason: str
    events: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Delivered:
    """How many deliveries of a channel stand in a state; `outcome` is the last one's word for why."""

    channel: Channel
    state: Standing
    outcome: str
    deliveries: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Withdrawn:
    """Held events that an order has recalled since; the router says so when they are due."""

    recall_id: str
    at: datetime
    events: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Books:
    """What PostgreSQL says, at one moment."""

    waiting: int = 0  # outbox rows that the relay has not settled
    parked: tuple[Parked, ...] = ()
    heads: Mapping[Position, int] = field(default_factory=dict[Position, int])  # next offset to decide
    # The first offset that the log has a decision of, of the releases too.
    firsts: Mapping[Position, int] = field(default_factory=dict[Position, int])
    decided: tuple[Decided, ...] = ()
    open: int = 0  # of the decided events, those with a delivery that is not final yet
    incomplete: int = 0  # of the others, those that lack the row of a planned delivery
    delivered: tuple[Delivered, ...] = ()
    withdrawn: tuple[Withdrawn, ...] = ()  # of the held events
    # Records that nobody decided and that were written again elsewhere, where they count; to heads, firsts and
    # holes they are as good as decided.
    driven: int = 0
    holes: tuple[Hole, ...] = ()  # between decisions
    missing_deliveries: tuple[MissingDelivery, ...] = ()  # named up to the query's limit
    unplanned: int = 0  # deliveries with an outcome whose decision has not come
    repeats: int = 0  # attempts that were made more than once
    duplicates: tuple[Place, ...] = ()  # the latest, up to the query's limit


@dataclass(frozen=True, slots=True, kw_only=True)
class Ledger:
    """The balance."""

    accepted: int  # events in Kafka, and in the outbox on the way there
    final: int  # of these, in a final state with every delivery
    in_flight: int  # of these, on their way: in the outbox, undecided, held, or with an open delivery
    delivered: Mapping[str, int]  # deliveries by channel
    suppressed: Mapping[str, int]  # events, and deliveries after their decision, by reason
    rejected: Mapping[str, int]  # events by reason
    expired: int  # events and deliveries
    recalled: int  # events and deliveries
    dead: Mapping[str, int]  # deliveries by the last outcome
    duplicates: int  # events
    duplicate_of: tuple[Place, ...]
    deliveries: int  # all that were planned
    deliveries_in_flight: int
    outbox_waiting: int
    undecided: int  # records in Kafka whose decision has not come
    held: int
    withdrawn: tuple[Withdrawn, ...]  # of these
    unplanned: int
    repeats: int
    parked: tuple[Parked, ...]
    holes: tuple[Hole, ...]
    missing_deliveries: tuple[MissingDelivery, ...]

    @property
    def balanced(self) -> bool:
        """Whether every accepted event is accounted for."""
        return not self.missing and self.accepted == self.final + self.in_flight

    @property
    def missing(self) -> tuple[str, ...]:
        """Each thing that is missing, named."""
        return (
            *(
                f"event {h.topic}[{h.partition}] offsets {h.first} to {h.last}: no decision"
                for h in self.holes
            ),
            *(f"delivery {m.delivery_id} of event {m.event_id}: no row" for m in self.missing_deliveries),
            *self._undecided_deliveries(),
        )

    def _undecided_deliveries(self) -> tuple[str, ...]:
        """An outcome may be read before its decision; once all are decided, there is none to come."""
        if self.undecided or not self.unplanned:
            return ()
        return (f"{self.unplanned} deliveries have outcomes and no decision",)

    def as_json(self) -> dict[str, Any]:
        """Everything, as values that JSON knows."""
        return {**asdict(self), "missing": list(self.missing), "balanced": self.balanced}


def balance(
    books: Books, ends: Mapping[Position, int], begins: Mapping[Position, int] = _FROM_ZERO
) -> Ledger:
    """Close the books against Kafka.

    `ends` are the end offsets of every partition of notification.events.*. A decision proves that its
    record exists, so a decision beyond an end (asked a moment earlier) moves the end. `begins` are the
    first offsets that retention has left of these, of the releases and of the decisions; absent is 0.
    """
    heads = books.heads
    bases = {place: _base(books, begins, place) for place in ends.keys() | heads.keys() | books.firsts.keys()}
    in_kafka = {place: max(ends.get(place, 0), heads.get(place, 0)) for place in ends.keys() | heads.keys()}
    undecided = sum(end - heads.get(place, bases[place]) for place, end in in_kafka.items())
    waiting = books.waiting + len(books.parked)
    held = _events(books, "held")
    return Ledger(
        accepted=waiting + sum(end - bases[place] for place, end in in_kafka.items()) - books.driven,
        final=sum(d.events for d in books.decided) - held - books.open - books.incomplete,
        in_flight=waiting + undecided + held + books.open,
        delivered=_deliveries(books, "delivered", by="channel"),
        suppressed=_added(_by_reason(books, "suppressed"), _late_suppressions(books)),
        rejected=_by_reason(books, "rejected"),
        expired=_events(books, "expired") + _count(books, "expired"),
        recalled=_events(books, "recalled") + _count(books, "recalled"),
        dead=_deliveries(books, "dead", by="outcome"),
        duplicates=_events(books, "duplicate"),
        duplicate_of=books.duplicates,
        deliveries=sum(d.deliveries for d in books.delivered),
        deliveries_in_flight=_count(books, "planned") + _count(books, "in_flight"),
        outbox_waiting=books.waiting,
        undecided=undecided,
        held=held,
        withdrawn=books.withdrawn,
        unplanned=books.unplanned,
        repeats=books.repeats,
        parked=books.parked,
        holes=(*_at_the_start(books, bases), *books.holes),
        missing_deliveries=books.missing_deliveries,
    )


def _base(books: Books, begins: Mapping[Position, int], place: Position) -> int:
    """The first offset that the log answers for.

    A log that is younger than its topics has read what retention had left of the decisions; when that has
    cut some off, their events are no holes, and the log's first decision is where it begins.
    """
    begin, first = begins.get(place, 0), books.firsts.get(place)
    if first is None:
        return begin
    _, partition = place
    return first if begins.get((DECISIONS, partition), 0) else min(begin, first)


def _at_the_start(books: Books, bases: Mapping[Position, int]) -> list[Hole]:
    return [
        Hole(topic=topic, partition=partition, first=bases[topic, partition], last=first - 1)
        for (topic, partition), first in sorted(books.firsts.items())
        if bases[topic, partition] < first
    ]


def _events(books: Books, verdict: str) -> int:
    return sum(d.events for d in books.decided if d.verdict == verdict)


def _by_reason(books: Books, verdict: str) -> dict[str, int]:
    return {d.reason: d.events for d in books.decided if d.verdict == verdict}


def _count(books: Books, state: Standing) -> int:
    return sum(d.deliveries for d in books.delivered if d.state == state)


def _deliveries(books: Books, state: Standing, *, by: str) -> dict[str, int]:
    found: dict[str, int] = {}
    for d in books.delivered:
        if d.state == state:
            key: str = getattr(d, by)
            found[key] = found.get(key, 0) + d.deliveries
    return found


def _late_suppressions(books: Books) -> dict[str, int]:
    late = _count(books, "suppressed")
    return {"opted_out_later": late} if late else {}


def _added(left: Mapping[str, int], right: Mapping[str, int]) -> dict[str, int]:
    return {key: left.get(key, 0) + right.get(key, 0) for key in left.keys() | right.keys()}
