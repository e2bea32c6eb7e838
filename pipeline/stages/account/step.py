"""One batch of the account stage, as numbered steps.

    1 fetch    decisions, outcomes and engagements
    2 write    the log, in one Postgres transaction
    3 dead     what nobody can read goes to notification.dead, acknowledged
    4 commit   the offsets

A crash before 4 brings the batch again: the log is idempotent, so it changes nothing. 3 comes after 2,
or an outage of Postgres would write a dead letter again with every try.
"""

import asyncio
from collections.abc import Sequence

from pipeline.model.errors import DependencyDown
from pipeline.model.record import Incoming
from pipeline.model.topics import DECISIONS, ENGAGEMENT, OUTCOMES
from pipeline.observe import Log, Meter, heartbeat, span
from pipeline.ports import Codec, Consumer, Producer
from pipeline.ports import Log as NotificationLog
from pipeline.stages.account.decide import read

TOPICS = (DECISIONS, OUTCOMES, ENGAGEMENT)
_log = Log(__name__)
_meter = Meter()
_WAIT = 0.5  # seconds that a fetch waits for its first record, and so how long a stop may take
_PAUSE = 1.0  # seconds before the next try when Postgres or Kafka is away


async def step(batch: Sequence[Incoming], codec: Codec, log: NotificationLog, producer: Producer) -> None:
    """Make a batch durable. Raises DependencyDown: the same batch again is harmless."""
    found = read(batch, codec)
    await log.write(found.decisions, found.outcomes, found.engagements)
    if found.dead:
        await producer.send_all(found.dead)
        _log.error("record.rejected", count=len(found.dead))
    _meter.add("messaging.client.consumed.messages", len(found.decisions), destination=DECISIONS)
    _meter.add("messaging.client.consumed.messages", len(found.outcomes), destination=OUTCOMES)
    _meter.add("messaging.client.consumed.messages", len(found.engagements), destination=ENGAGEMENT)


async def run(
    consumer: Consumer,
    codec: Codec,
    log: NotificationLog,
    producer: Producer,
    *,
    stop: asyncio.Event,
    limit: int = 2000,
) -> None:
    """Account until `stop` is set. While a dependency is away it keeps its batch and tries it again."""
    down = False
    batch: Sequence[Incoming] = ()
    while not stop.is_set():
        heartbeat.beat()
        try:
            batch = batch or await consumer.fetch(dict.fromkeys(TOPICS, limit), _WAIT)
            if batch:
                with span("process batch", stage="account"):
                    await step(batch, codec, log, producer)
                await consumer.commit(batch)
                batch = ()
        except DependencyDown as error:
            if not down:
                _log.warning("dependency.down", error=str(error))
            down = True
            await _pause(consumer, stop)
            continue
        if down:
            _log.info("dependency.back")
            down = False


async def _pause(consumer: Consumer, stop: asyncio.Event) -> None:
    """Wait as a member of the group: one that does not ask for 300 s is put out."""
    try:
        await consumer.fetch({}, _PAUSE)
    except DependencyDown:
        try:
            await asyncio.wait_for(stop.wait(), _PAUSE)
        except TimeoutError:
            return
