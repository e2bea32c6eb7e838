"""The router's loop: read a batch, gather facts, decide, write everything in one transaction.

    1 read       a batch from the lanes and of released holds, urgent first
    2 gather     the profiles of all its users, in one query
    3 decide     `decide.route`, record by record, against memory and what this batch decided so far
    4 commit     decisions, deliveries, holds, dead letters and offsets, all or none
    5 learn      only now memory changes

While Postgres or the registry is away the process stays in its group, reads nothing, skips nothing.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from threading import Event as Flag
from typing import Protocol

from opentelemetry.trace import Span

from pipeline.model.catalogue import Catalogue
from pipeline.model.dead import Cause, Disposition, dead_letter
from pipeline.model.errors import DependencyDown, Unreadable
from pipeline.model.event import LANES, Event, user_key
from pipeline.model.hold import Hold
from pipeline.model.profile import Profile
from pipeline.model.recall import Recalls
from pipeline.model.record import Incoming, Outgoing
from pipeline.model.topics import DECISIONS, HOLDS, RELEASED, deliver, events
from pipeline.observe import Log, Meter, heartbeat, link, span
from pipeline.ports import Clock, Codec, UserKey
from pipeline.stages.route.decide import route
from pipeline.stages.route.facts import Arrival, Facts, Ruling, Source
from pipeline.stages.route.memory import identity
from pipeline.stages.route.state import Batch, RouterState

GROUP = "everpost.route"
TOPICS = (*(events(lane) for lane in LANES), RELEASED)
_URGENCY = {name: order for order, lane in enumerate(LANES) for name in (lane, events(lane))}
_IDLE = 0.5  # seconds that a poll waits for the first record
_AWAY = 0.5  # seconds between two questions to something that is away
_log = Log(__name__)

Fetch = Callable[[Sequence[UserKey]], Mapping[UserKey, Profile]]


class Transactions(Protocol):
    """The group and the transaction, as the loop sees them."""

    @property
    def epoch(self) -> int:
        """Grows with every rebalance."""
        ...

    def poll(self, limit: int, timeout: float) -> list[Incoming]:
        """Read up to `limit` records, waiting `timeout` seconds for the first."""
        ...

    def wait(self, seconds: float) -> None:
        """Stay in the group without reading."""
        ...

    def commit(self, records: Sequence[Outgoing], offsets: Sequence[tuple[str, int, int]]) -> bool:
        """Write all and move the offsets, or neither (False)."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Router:
    """Everything that the loop works with."""

    transactions: Transactions
    state: RouterState
    wire: Codec
    fetch: Fetch
    catalogue: Catalogue
    recalls: Callable[[], Recalls] = Recalls  # the orders in force at this moment
    clock: Clock
    meter: Meter
    batch: int


def run(router: Router, stop: Flag) -> None:
    """Route until `stop` is set. Raises when the process must end and be started again."""
    _log.info("stage.started")
    while not stop.is_set():
        records = router.transactions.poll(router.batch, _IDLE)
        if records:
            with span("process batch", stage="route") as batch:
                _handle(router, records, stop, batch)
        heartbeat.beat()
    _log.info("stage.stopped")


def _handle(router: Router, records: Sequence[Incoming], stop: Flag, batch: Span) -> None:
    epoch, began, told = router.transactions.epoch, time.monotonic(), False
    while True:
        try:
            pairs = decide_batch(router, records)
            written = [out for record, ruling in pairs for out in to_records(router.wire, record, ruling)]
            break
        except DependencyDown as away:
            if not told:
                _log.warning("dependency.down", error=str(away))
            told = True
            router.transactions.wait(_AWAY)
            heartbeat.beat()
            if stop.is_set() or router.transactions.epoch != epoch:
                return  # nothing was committed: the records come again
    if told:
        _log.info("dependency.back")
    link(batch, (delivery.traceparent for _, ruling in pairs for delivery in ruling.deliveries))
    if router.transactions.commit(written, next_offsets(records)):
        router.state.learn(ruling.decision for _, ruling in pairs)
        _measure(router.meter, pairs, time.monotonic() - began)


def decide_batch(router: Router, records: Sequence[Incoming]) -> list[tuple[Incoming, Ruling]]:
    """Decide about every record that has no decision yet, urgent ones first.

    Raises DependencyDown when profiles or schema ids can't be had; nothing has changed then.
    """
    fresh = [r for r in records if r.offset >= router.state.next_offset(r.topic, r.partition)]
    arrivals = [(record, _arrival(router.wire, record)) for record in fresh]
    arrivals.sort(key=_urgency)  # stable: offsets of a lane stay in order
    users = {(a.event.tenant, a.event.user_id) for _, a in arrivals if a.event is not None}
    profiles = router.fetch(sorted(users))
    recalls = router.recalls()
    now = router.clock()
    now = now.replace(microsecond=now.microsecond // 1000 * 1000)  # what is remembered is what is written
    batch = Batch(router.state)
    pairs: list[tuple[Incoming, Ruling]] = []
    for record, arrival in arrivals:
        facts = _facts(router.catalogue, recalls, arrival, profiles, batch)
        ruling = route(arrival, facts, now)
        batch.note(ruling.decision)
        pairs.append((record, ruling))
    return pairs


def _arrival(wire: Codec, record: Incoming) -> Arrival:
    arrival = _read(wire, record)
    if arrival.event is None or arrival.event.key == record.key:
        return arrival
    # Under another key the same user's events meet in another partition, and a duplicate passes.
    return replace(arrival, event=None, defect="the record's key is not <tenant>/<user_id>")


def _read(wire: Codec, record: Incoming) -> Arrival:
    source = Source(topic=record.topic, partition=record.partition, offset=record.offset)
    raw, release_of = record.value or b"", None
    try:
        if record.topic == RELEASED:
            hold = wire.decode(Hold, raw)
            release_of = Source(
                topic=hold.source_topic, partition=hold.source_partition, offset=hold.source_offset
            )
            raw = hold.event
        event = wire.decode(Event, raw)
    except Unreadable as defect:
        return Arrival(source=source, event=None, raw=raw, release_of=release_of, defect=str(defect))
    return Arrival(source=source, event=event, raw=raw, release_of=release_of)


def _urgency(pair: tuple[Incoming, Arrival]) -> int:
    """By the topic's lane, as everywhere; a release, which comes on a topic of all lanes, by its own."""
    record, arrival = pair
    if record.topic == RELEASED:
        return _URGENCY.get(arrival.event.priority, len(LANES)) if arrival.event else len(LANES)
    return _URGENCY[record.topic]


def _facts(
    catalogue: Catalogue,
    recalls: Recalls,
    arrival: Arrival,
    profiles: Mapping[UserKey, Profile],
    batch: Batch,
) -> Facts:
    event, partition = arrival.event, arrival.source.partition
    if event is None:
        return Facts(decided=None, profile=None, catalogue=catalogue)
    user = (event.tenant, event.user_id)
    kind = catalogue.get(event.type)
    caps = kind.category.caps if kind else None
    return Facts(
        decided=batch.decided(partition, identity(*user, event.event_id)),
        profile=profiles.get(user),
        catalogue=catalogue,
        recalls=recalls,
        sent=batch.sent(partition, user, kind.category.name, caps) if kind and caps else {},
    )


def to_records(wire: Codec, source: Incoming, ruling: Ruling) -> list[Outgoing]:
    """What a ruling writes: its decision and its hold into the event's partition number, deliveries, a dead letter."""
    decision, hold = ruling.decision, ruling.hold
    written = [
        Outgoing(topic=DECISIONS, key=source.key, value=wire.encode(decision), partition=source.partition)
    ]
    if hold is not None:
        written.append(
            Outgoing(topic=HOLDS, key=source.key, value=wire.encode(hold), partition=source.partition)
        )
    written.extend(
        Outgoing(
            topic=deliver(delivery.channel, delivery.lane),
            key=user_key(delivery.tenant, delivery.user_id),
            value=wire.encode(delivery),
        )
        for delivery in ruling.deliveries
    )
    if decision.verdict == "rejected":
        disposition: Disposition = "unreadable" if decision.reason == "unreadable" else "invalid"
        cause = Cause(disposition=disposition, message=decision.gates[-1].evidence)
        written.append(dead_letter(source, cause, group=GROUP, stage="route"))
    return written


def next_offsets(records: Sequence[Incoming]) -> list[tuple[str, int, int]]:
    """Where the group reads on: per partition, the offset after the last record read."""
    ends: dict[tuple[str, int], int] = {}
    for record in records:
        ends[record.topic, record.partition] = record.offset + 1
    return [(topic, partition, offset) for (topic, partition), offset in ends.items()]


def _measure(meter: Meter, pairs: Sequence[tuple[Incoming, Ruling]], seconds: float) -> None:
    verdicts: dict[str, int] = {}
    for _, ruling in pairs:
        verdicts[ruling.decision.verdict] = verdicts.get(ruling.decision.verdict, 0) + 1
    for verdict, count in verdicts.items():
        meter.add("everpost.decisions", count, verdict=verdict)
    meter.seconds("messaging.process.duration", seconds, stage="route")
    _log.info("batch.committed", records=len(pairs), seconds=round(seconds, 3), **verdicts)
