"""The watch over the ledger: what has neither ended nor moved for longer than it may, and where it was last seen.

Pure. A thing goes from topic to topic, and each topic has one reader that passes a record only when what
came of it is written further on. So whatever has not ended waits in the first topic of its way that is not
read far enough; when there is none, nobody will ever come to it: it is lost.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta
from typing import Any, Literal, NamedTuple

from pipeline.model.event import Channel, Lane
from pipeline.model.ladder import TIERS
from pipeline.model.ledger import Ledger, Position
from pipeline.model.topics import DECISIONS, HOLDS, OUTCOMES, RELEASED, deliver, retry

Kind = Literal[
    "outbox",  # a row that no relay takes
    "undecided",  # records of events that no router decides
    "held",  # an event whose hold should have ended
    "delivery",  # a delivery that has no final outcome
]
OUTBOX, TIMERS = "outbox", "timer"  # tables, where a thing may be instead of on a topic

# How long after a decision or an outcome its records are written: a transaction ends within 30 s, and the
# clocks of two machines may differ.
_WRITTEN = timedelta(seconds=60)


class Stop(NamedTuple):
    """A topic on the way of a thing."""

    topic: str
    # Its reader has passed the thing once it has read what was written until then; None: until it is asked,
    # for nobody knows when the thing came there.
    until: datetime | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Open:
    """A delivery that stands still."""

    delivery_id: str
    event_id: str
    tenant: str
    channel: Channel
    lane: Lane
    attempt: int  # that was made last; 0: none
    tier: str  # that it was sent to, empty when none
    at: datetime  # of the last outcome, or of the decision
    since: datetime  # when it should have moved: its `not_before`, or `at`

    @property
    def way(self) -> tuple[Stop, ...]:
        """The topics that lead on from where it was last seen."""
        sender = deliver(self.channel, self.lane)
        written = self.at + _WRITTEN
        if not self.tier:
            return Stop(sender, written), Stop(OUTCOMES, None)
        rounds: tuple[Stop, ...] = ()
        if self.tier == TIERS[-1].name:  # the one that sends round again what has to wait for longer
            rounds = tuple(Stop(retry(tier.name), self.since + _WRITTEN) for tier in TIERS[:-1])
        return (
            Stop(retry(self.tier), max(written, self.since) if rounds else written),
            *rounds,
            Stop(sender, None),
            Stop(OUTCOMES, None),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Held:
    """An event whose hold should have ended."""

    topic: str  # with partition and offset: the record that was held
    partition: int
    offset: int
    event_id: str
    tenant: str
    at: datetime  # of the decision that held it
    due_at: datetime
    timer: bool  # the hold stage still has it

    @property
    def way(self) -> tuple[Stop, ...]:
        """The topics that lead on from the hold."""
        return Stop(HOLDS, self.at + _WRITTEN), Stop(RELEASED, None), Stop(DECISIONS, None)


class Late(NamedTuple):
    """The records of a partition that should be decided and are not."""

    topic: str
    partition: int
    first: int
    records: int
    before: datetime  # all were written before

    @property
    def way(self) -> tuple[Stop, ...]:
        """The topics that lead on from the event."""
        return Stop(self.topic, self.before), Stop(DECISIONS, None)


@dataclass(frozen=True, slots=True, kw_only=True)
class Waits:
    """An outbox row that no relay takes."""

    outbox_id: str
    event_id: str
    tenant: str
    since: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Stuck:
    """One thing that does not move."""

    kind: Kind
    subject: str  # id of the delivery or row, or topic/partition/offset
    event_id: str = ""
    tenant: str = ""
    since: datetime  # when it moved last, or should have
    topic: str  # where it was last seen; the outbox and the timers are tables
    written: datetime  # about when its record was; for what is undecided: before that
    queued: bool  # it waits in line there; else its reader has passed it, and it is lost
    records: int = 1

    def __str__(self) -> str:
        """What people read."""
        where = "it waits in line there" if self.queued else "which was read past it: it is lost"
        event = f" of event {self.event_id}" if self.event_id else ""
        tenant = f" of tenant {self.tenant}" if self.tenant else ""
        many = f" and {self.records - 1:,} after it" if self.records > 1 else ""
        return (
            f"{self.kind} {self.subject}{many}{event}{tenant}: nothing since {self.since.isoformat()}, "
            f"last seen on {self.topic}, {where}"
        )


Passed = Callable[[Stop], bool]  # whether the topic's reader has come that far


def delivery(one: Open, passed: Passed) -> Stuck:
    """Where an open delivery is."""
    topic, queued = _seen(one.way, passed)
    return Stuck(
        kind="delivery",
        subject=one.delivery_id,
        event_id=one.event_id,
        tenant=one.tenant,
        since=one.since,
        topic=topic,
        written=one.at,
        queued=queued,
    )


def held(one: Held, passed: Passed) -> Stuck:
    """Where a held event is."""
    topic, queued = (TIMERS, True) if one.timer else _seen(one.way, passed)
    return Stuck(
        kind="held",
        subject=f"{one.topic}/{one.partition}/{one.offset}",
        event_id=one.event_id,
        tenant=one.tenant,
        since=one.due_at,
        topic=topic,
        written=one.at,
        queued=queued,
    )


def undecided(one: Late, passed: Passed) -> Stuck:
    """Where records without a decision are."""
    topic, queued = _seen(one.way, passed)
    return Stuck(
        kind="undecided",
        subject=f"{one.topic}/{one.partition}/{one.first}",
        since=one.before,
        topic=topic,
        written=one.before,
        queued=queued,
        records=one.records,
    )


def unrelayed(one: Waits) -> Stuck:
    """A row of the outbox, which is always in line."""
    return Stuck(
        kind="outbox",
        subject=one.outbox_id,
        event_id=one.event_id,
        tenant=one.tenant,
        since=one.since,
        topic=OUTBOX,
        written=one.since,
        queued=True,
    )


def _seen(way: Sequence[Stop], passed: Passed) -> tuple[str, bool]:
    """Where a thing waits in line, or where it was last seen when it is lost."""
    for stop in way:
        if not passed(stop):
            return stop.topic, True
    return way[0].topic, False


def late(
    heads: Mapping[Position, int], begins: Mapping[Position, int], cuts: Mapping[Position, int], at: datetime
) -> tuple[Late, ...]:
    """What should be decided and is not, one value a partition.

    `heads`: the next offset to decide; `cuts`: the first offset that was written after `at`.
    """
    found = ((place, heads.get(place, begins.get(place, 0)), cuts[place]) for place in sorted(cuts))
    return tuple(Late(*place, first, cut - first, at) for place, first, cut in found if first < cut)


@dataclass(frozen=True, slots=True, kw_only=True)
class Hour:
    """The balance of one tenant's events of one hour: of their decision, or of the outbox row before it."""

    tenant: str
    hour: datetime
    accepted: int
    final: int
    in_flight: int

    @property
    def missing(self) -> int:
        """Events that are neither final nor in flight."""
        return self.accepted - self.final - self.in_flight


@dataclass(frozen=True, slots=True, kw_only=True)
class Survey:
    """What one look has found."""

    ledger: Ledger
    stuck: tuple[Stuck, ...] = ()  # those that stand still for longest, up to the limit of the queries
    unnamed: int = 0  # deliveries beyond that limit
    hours: tuple[Hour, ...] = ()

    @property
    def lost(self) -> tuple[Stuck, ...]:
        """What nobody will ever come to."""
        return tuple(one for one in self.stuck if not one.queued)

    @property
    def sound(self) -> bool:
        """Whether everything is accounted for, in every hour too, and nothing is lost."""
        return self.ledger.balanced and not self.lost and not any(hour.missing for hour in self.hours)

    @property
    def told(self) -> Mapping[str, str]:
        """What an operator has to know, by what it is about: the same as long as nothing changes.

        What is lost or missing has a line each. What waits in line has one for each place, or a provider's
        outage would tell of every delivery.
        """
        told = {f"{one.kind} {one.subject}": str(one) for one in self.lost}
        told |= {f"missing {name}": name for name in self.ledger.missing}
        told |= {
            f"missing of {hour.tenant} at {hour.hour.isoformat()}": f"tenant {hour.tenant}, "
            f"{hour.hour.isoformat()}: {hour.missing:,} of {hour.accepted:,} events are missing"
            for hour in self.hours
            if hour.missing
        }
        lines: dict[tuple[Kind, str], list[Stuck]] = {}
        for one in self.stuck:
            if one.queued:
                lines.setdefault((one.kind, one.topic), []).append(one)
        return told | {f"{kind} on {topic}": _line(some) for (kind, topic), some in lines.items()}

    def as_json(self) -> dict[str, Any]:
        """Everything, as values that JSON knows."""
        hours = [{**asdict(one), "missing": one.missing} for one in self.hours]
        stuck = [{**asdict(one), "told": str(one)} for one in self.stuck]
        return {
            **self.ledger.as_json(),
            "stuck": stuck,
            "stuck_unnamed": self.unnamed,
            "hours": hours,
            "sound": self.sound,
        }


def _line(some: Sequence[Stuck]) -> str:
    first = min(some, key=lambda one: one.since)
    more = sum(one.records for one in some) - first.records
    return str(first) + (f"; so do {more:,} more" if more else "")
