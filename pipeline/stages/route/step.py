"""The router's loop: read a batch, gather facts, decide, write everything in one transaction.

    1 read       a batch from the lanes and of released holds, urgent first
    2 gather     the profiles that are new or have changed, and the orders to recall
    3 decide     record by record, against the state and what this batch decided so far
    4 commit     decisions, deliveries, holds, dead letters, window and offsets, all or none
    5 learn      only now the state changes

While Postgres or the registry is away the process stays in its group, reads nothing, skips nothing.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from threading import Event as Flag
from typing import Protocol

from opentelemetry.trace import Span

from pipeline.model import window
from pipeline.model.catalogue import Catalogue
from pipeline.model.errors import DependencyDown
from pipeline.model.event import LANES, Event
from pipeline.model.moment import moment, ms
from pipeline.model.recall import Recalls
from pipeline.model.record import Incoming, Records, Written
from pipeline.model.topics import RELEASED, events
from pipeline.observe import Log, Meter, heartbeat, link, span
from pipeline.ports import Clock, Codec
from pipeline.stages.route.decide import route
from pipeline.stages.route.express import Express
from pipeline.stages.route.facts import Arrival, Decided, Facts, Source
from pipeline.stages.route.native import COMPILED, decider, rules
from pipeline.stages.route.patterns import Kind, PatternMaker, kinds
from pipeline.stages.route.people import People, Person
from pipeline.stages.route.records import arrival, counter, remember, to_records
from pipeline.stages.route.state import Batch, RouterState
from pipeline.stages.route.work import LINKS, Work

TOPICS = (*(events(lane) for lane in LANES), RELEASED)
_URGENCY = {topic: order for order, topic in enumerate(TOPICS)}
_IDLE = 0.5  # seconds that a poll waits for the first record
_AWAY = 0.5  # seconds between two questions to something that is away
_log = Log(__name__)


class Transactions(Protocol):
    """The group and the transaction, as the loop sees them."""

    @property
    def epoch(self) -> int:
        """Grows with every rebalance."""
        ...

    def poll(self, limit: int, timeout: float) -> Records:
        """Read up to `limit` records, waiting `timeout` seconds for the first."""
        ...

    def wait(self, seconds: float) -> None:
        """Stay in the group without reading."""
        ...

    def commit(self, written: Written, offsets: Sequence[tuple[str, int, int]]) -> Mapping[int, int] | None:
        """Write all and move the offsets, or neither (None). Gives where the pages stand, by partition."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Router:
    """Everything that the loop works with."""

    transactions: Transactions
    state: RouterState
    wire: Codec
    people: People
    catalogue: Catalogue
    recalls: Callable[[], Recalls] = Recalls  # the orders in force at this moment
    clock: Clock
    meter: Meter
    batch: int
    kinds: Mapping[bytes, Kind] = field(init=False)
    rules: Mapping[bytes, object] = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "kinds", kinds(self.catalogue))
        object.__setattr__(self, "rules", rules(self.kinds))


def run(router: Router, stop: Flag) -> None:
    """Route until `stop` is set. Raises when the process must end and be started again."""
    _log.info("stage.started", compiled=COMPILED)
    while not stop.is_set():
        records = router.transactions.poll(router.batch, _IDLE)
        if records:
            with span("process batch", stage="route") as batch:
                _handle(router, records, stop, batch)
        heartbeat.beat()
    _log.info("stage.stopped")


def _handle(router: Router, records: Records, stop: Flag, batch: Span) -> None:
    epoch, began, told = router.transactions.epoch, time.monotonic(), False
    while True:
        try:
            work = decide_batch(router, records)
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
    link(batch, work.traces)
    pages = router.transactions.commit(work.written, next_offsets(records))
    if pages is not None:
        router.state.learn(work.batch.pages, pages)
        _measure(router.meter, work.verdicts, time.monotonic() - began)


def decide_batch(router: Router, records: Records) -> Work:
    """Decide about every record that has no decision yet, urgent ones first.

    Raises DependencyDown when profiles or schema ids can't be had; nothing has changed then.
    """
    people = router.people.meet({key for key in records.keys if key is not None})
    recalls = router.recalls()
    now = router.clock()
    now = now.replace(microsecond=now.microsecond // 1000 * 1000)  # what is remembered is what is written
    work = Work(Batch(router.state, ms(now)))
    express = Express(
        maker=PatternMaker(router.wire, router.catalogue, now),
        kinds=router.kinds,
        recalls=recalls,
        records=records,
        people=people,
        work=work,
    )
    decided = decider(express, router.rules, router.wire.head(Event))
    for at in _fresh(router.state, records):
        if not decided(at):
            record = records.whole(at)
            _by_the_long_way(router, work, record, people.get(record.key or b""), recalls, now)
    work.written.pages = {partition: page.encode() for partition, page in work.batch.pages.items()}
    return work


def _fresh(state: RouterState, records: Records) -> list[int]:
    """Where the records stand that have no decision, urgent ones first, else in their order."""
    first = {
        (t, p): state.next_offset(t, p) for t, p in set(zip(records.topics, records.partitions, strict=True))
    }
    places = zip(records.topics, records.partitions, records.offsets, strict=True)
    fresh = [at for at, (topic, partition, offset) in enumerate(places) if offset >= first[topic, partition]]
    if len({topic for topic, _ in first}) > 1:
        fresh.sort(key=lambda at: _URGENCY[records.topics[at]])
    return fresh


def _by_the_long_way(
    router: Router, work: Work, record: Incoming, person: Person | None, recalls: Recalls, now: datetime
) -> None:
    """Through the gates, one by one."""
    arrived = arrival(router.wire, record)
    ruling = route(arrived, _facts(router.catalogue, recalls, arrived, record, person, work.batch), now)
    for written in to_records(router.wire, record, ruling):
        work.written.add(written)
    verdict = ruling.decision.verdict
    work.verdicts[verdict] = work.verdicts.get(verdict, 0) + 1
    if len(work.traces) < LINKS:
        work.traces += (delivery.traceparent for delivery in ruling.deliveries)
    remember(work.batch.page(record.partition), ruling.decision)


def _facts(
    catalogue: Catalogue,
    recalls: Recalls,
    arrived: Arrival,
    record: Incoming,
    person: Person | None,
    batch: Batch,
) -> Facts:
    event, key, partition = arrived.event, record.key or b"", record.partition
    if event is None:
        return Facts(decided=None, profile=None, catalogue=catalogue)
    kind = catalogue.get(event.type)
    caps = kind.category.caps if kind else {}
    found = batch.decided(partition, window.identity(key, event.event_id.encode()))
    return Facts(
        decided=None if found is None else _decided(partition, found),
        profile=None if person is None else person.profile,
        catalogue=catalogue,
        recalls=recalls,
        sent={
            channel: [moment(at) for at in batch.sent(partition, counter(key, kind.category.name, channel))]
            for channel in caps
            if kind is not None
        },
    )


def _decided(partition: int, packed: bytes) -> Decided:
    entry = window.unpack(packed)
    source = Source(topic=entry.topic, partition=partition, offset=entry.offset)
    return Decided(source=source, verdict=entry.verdict, content=entry.content)


def next_offsets(records: Records) -> list[tuple[str, int, int]]:
    """Where the group reads on: per partition, the offset after the last record read."""
    ends = dict(zip(zip(records.topics, records.partitions, strict=True), records.offsets, strict=True))
    return [(topic, partition, offset + 1) for (topic, partition), offset in ends.items()]


def _measure(meter: Meter, verdicts: Mapping[str, int], seconds: float) -> None:
    for verdict, count in verdicts.items():
        meter.add("everpost.decisions", count, verdict=verdict)
    meter.seconds("messaging.process.duration", seconds, stage="route")
    _log.info("batch.committed", records=sum(verdicts.values()), seconds=round(seconds, 3), **verdicts)
