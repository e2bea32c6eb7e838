"""The loop of the retry stage: read every tier, forward what is due, hold the rest with its partition.

    1 read     the tiers' topics; a partition whose head is not due is paused, so it reads nothing more
    2 decide   `decide.decide`, from the head of each partition until one is not due
    3 ask      which of them an operator's run has taken (`everpost dead replay --retry`): these it leaves out
    4 write    deliveries, outcomes and dead letters, acknowledged by Kafka
    5 commit   the offsets of what left

Nothing sleeps on a record: the loop goes on reading, so the process stays in its group. A crash
between 4 and 5 forwards a record twice; the attempt has the same number and identity both times.
"""

import asyncio
from collections import Counter, deque
from collections.abc import AsyncGenerator, Callable, Iterable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, field
from datetime import datetime
from typing import Protocol, assert_never

from pipeline.model.dead import Cause, dead_letter
from pipeline.model.delivery import Delivery
from pipeline.model.errors import DependencyDown, Unreadable
from pipeline.model.event import CHANNELS, LANES, user_key
from pipeline.model.ladder import Tier
from pipeline.model.outcome import Outcome
from pipeline.model.record import Incoming, Outgoing
from pipeline.model.replay import Waiting
from pipeline.model.topics import OUTCOMES, deliver, retry
from pipeline.observe import Log, Meter, Outage, heartbeat, span
from pipeline.ports import Clock, Codec, Consumer, Producer
from pipeline.stages.retry.decide import Expired, Forward, Round, Wait, decide

GROUP = "everpost.retry"
_BATCH = 500  # records read at once
_IDLE = 0.2  # seconds that a read waits, and so how late a delivery may be forwarded
_AWAY = 0.5  # seconds between two tries while Kafka or the registry is away

_log = Log(__name__)

Partition = tuple[str, int]


class PausableConsumer(Consumer, Protocol):
    """A consumer that can leave single partitions alone."""

    def pause(self, partitions: Iterable[Partition]) -> None:
        """Read nothing from these until `resume`."""
        ...

    def resume(self, partitions: Iterable[Partition]) -> None:
        """Read from these again."""
        ...


@asynccontextmanager
async def _no_runs(_records: Sequence[Waiting]) -> AsyncGenerator[frozenset[int]]:
    """Nobody else takes anything out of the tiers."""
    yield frozenset()


@dataclass(frozen=True, slots=True, kw_only=True)
class Retrier:
    """Everything that the loop works with."""

    consumer: PausableConsumer
    producer: Producer
    wire: Codec
    clock: Clock
    tiers: tuple[Tier, ...]
    meter: Meter
    # Around the writing: the indices of what an operator's run has taken. Raises DependencyDown.
    leaving: Callable[[Sequence[Waiting]], AbstractAsyncContextManager[frozenset[int]]] = _no_runs


@dataclass(frozen=True, slots=True)
class Held:
    """What was read and is not due, by partition, in order."""

    queues: dict[Partition, deque[Incoming]] = field(default_factory=dict[Partition, deque[Incoming]])

    def add(self, records: Iterable[Incoming]) -> None:
        """Behind those of the same partition."""
        for record in records:
            self.queues.setdefault((record.topic, record.partition), deque()).append(record)

    def drop(self, consumer: Consumer) -> None:
        """Give back what is no longer ours."""
        for partition, queue in list(self.queues.items()):
            if not consumer.owns(queue[0]):
                consumer.abandon(list(queue))
                del self.queues[partition]


@dataclass(frozen=True, slots=True, kw_only=True)
class Moved:
    """A record that leaves its tier, and what is written for it."""

    source: Incoming
    written: Outgoing
    waiting: Waiting


def topics(tiers: tuple[Tier, ...]) -> tuple[str, ...]:
    """The topics of the tiers."""
    return tuple(retry(tier.name) for tier in tiers)


async def run(retrier: Retrier, stop: asyncio.Event) -> None:
    """Forward until `stop` is set."""
    _log.info("stage.started")
    held, outage = Held(), Outage(_log)
    rooms = dict.fromkeys(topics(retrier.tiers), _BATCH)
    while not stop.is_set():
        heartbeat.beat()
        try:
            records = await retrier.consumer.fetch(rooms, _IDLE)
            held.drop(retrier.consumer)
            held.add(records)
            retrier.consumer.pause(held.queues.keys())
            await forward(retrier, held)
        except DependencyDown as error:
            outage.down(error)
            await asyncio.sleep(_AWAY)
        else:
            outage.back()
    _log.info("stage.stopped", held=sum(map(len, held.queues.values())))


async def forward(retrier: Retrier, held: Held) -> None:
    """Write and commit everything that is due now; let emptied partitions be read again.

    Raises DependencyDown; unless everything was acknowledged, `held` has not changed.
    """
    now = retrier.clock()
    moved = {partition: due(retrier, queue, now) for partition, queue in held.queues.items()}
    gone = [one for some in moved.values() for one in some]
    if not gone:
        _empty(retrier, held, moved)
        await retrier.consumer.commit([])  # what an earlier try could not
        return
    async with retrier.leaving([one.waiting for one in gone]) as taken:
        ours = [one for n, one in enumerate(gone) if n not in taken]
        with span("process batch", stage="retry"):
            await retrier.producer.send_all([one.written for one in ours])
        _log.info("batch.committed", records=len(ours))
        _empty(retrier, held, moved)
        await retrier.consumer.commit([one.source for one in gone])
    for topic, count in Counter(one.written.topic for one in ours).items():
        retrier.meter.add("messaging.client.sent.messages", count, destination=topic)


def _empty(retrier: Retrier, held: Held, moved: Mapping[Partition, Sequence[Moved]]) -> None:
    """Forget what has left, and let partitions be read again of which nothing is left."""
    for partition, some in moved.items():
        for _ in some:
            held.queues[partition].popleft()
    empty = [partition for partition, queue in held.queues.items() if not queue]
    for partition in empty:
        del held.queues[partition]
    retrier.consumer.resume(empty)


def due(retrier: Retrier, queue: Iterable[Incoming], now: datetime) -> list[Moved]:
    """What leaves the head of a partition at `now`."""
    found: list[Moved] = []
    for record in queue:
        moved = _leave(retrier, record, now)
        if moved is None:
            break
        found.append(moved)
    return found


def _leave(retrier: Retrier, record: Incoming, now: datetime) -> Moved | None:
    """The record as it leaves its tier; None while it waits."""
    try:
        delivery = _read(retrier.wire, record)
    except Unreadable as error:
        _log.warning("record.rejected", topic=record.topic, offset=record.offset, error=str(error))
        cause = Cause(disposition="unreadable", message=str(error), error=type(error).__qualname__)
        letter = dead_letter(record, cause, group=GROUP, stage="retry")
        return Moved(source=record, written=letter, waiting=_waiting(record, "", 0))
    written = _written(retrier, record, delivery, now)
    if written is None:
        return None
    waiting = _waiting(record, delivery.delivery_id, delivery.attempt - 1)
    return Moved(source=record, written=written, waiting=waiting)


def _waiting(record: Incoming, delivery_id: str, attempt: int) -> Waiting:
    """As a replay's claim names it: by its place when it has no id of ours."""
    place = (record.topic, record.partition, record.offset)
    if delivery_id and delivery_id.isprintable():
        return Waiting(delivery_id, attempt, *place)
    return Waiting("/".join(map(str, place)), 0, *place)


def _written(retrier: Retrier, record: Incoming, delivery: Delivery, now: datetime) -> Outgoing | None:
    """What is written when the delivery leaves; None while it waits."""
    tier = next(tier for tier in retrier.tiers if retry(tier.name) == record.topic)
    key = user_key(delivery.tenant, delivery.user_id)
    step = decide(delivery, record.at, now, tier, retrier.tiers)
    match step:
        case Wait():
            return None
        case Forward():
            topic = deliver(delivery.channel, delivery.lane)
            return Outgoing(topic=topic, key=key, value=record.value, headers=record.headers)
        case Round(tier=other):
            return Outgoing(topic=retry(other.name), key=key, value=record.value, headers=record.headers)
        case Expired():
            outcome = _expired(record, delivery, now)
            return Outgoing(topic=OUTCOMES, key=key, value=retrier.wire.encode(outcome))
        case _:
            assert_never(step)


def _read(wire: Codec, record: Incoming) -> Delivery:
    delivery = wire.decode(Delivery, record.value)
    if delivery.channel not in CHANNELS or delivery.lane not in LANES:
        raise Unreadable(f"a delivery for {delivery.channel}, {delivery.lane}: there is no such topic")
    return delivery


def _expired(source: Incoming, delivery: Delivery, now: datetime) -> Outcome:
    return Outcome(
        delivery_id=delivery.delivery_id,
        event_id=delivery.event_id,
        user_id=delivery.user_id,
        tenant=delivery.tenant,
        channel=delivery.channel,
        address_id=delivery.address_id,
        attempt=delivery.attempt,
        outcome="expired",
        state="expired",
        reason="while it waited for its next attempt",
        source_topic=source.topic,
        source_partition=source.partition,
        source_offset=source.offset,
        at=now,
    )
