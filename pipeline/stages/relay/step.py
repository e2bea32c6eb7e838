"""One round of the relay, as numbered steps; the fault tests kill the process between each two.

    1 claim      the oldest rows that wait, of each share that this relay holds
    2 set aside  what Kafka can never take, so that it blocks nobody
    3 produce    the others, in their order, and wait until Kafka has acknowledged every one
    4 settle     delete them

A crash before 4 produces rows again: the router drops the repeats. Never settle first: a crash
between the two would lose what was accepted.

A whole prefix of a share is produced in its order each time, so even two relays at once (one that has lost
the share and does not know it yet) leave the *first* copies of a user's events in order.
"""

import asyncio
from collections.abc import Callable, Sequence

from pipeline.model.errors import DependencyDown, PayloadTooLarge
from pipeline.observe import Log, Meter, heartbeat, span
from pipeline.ports import Outbox, OutboxRow, RowProducer
from pipeline.stages.relay.decide import refusal

_log = Log(__name__)
_meter = Meter()
_IDLE = 0.5  # seconds between looks when no notification comes: one may be lost with its connection
_PAUSE = 1.0  # seconds before the next try when Kafka or PostgreSQL is away


def _unwatched(_step: str) -> None:
    """Nobody watches the steps outside of the fault tests."""


async def step(
    outbox: Outbox, producer: RowProducer, limit: int, reached: Callable[[str], None] = _unwatched
) -> int:
    """One round; gives how many rows are dealt with. Raises DependencyDown: the same rows come again."""
    rows = await outbox.claim(limit)
    reached("claimed")
    if rows:
        with span("process batch", stage="relay"):
            await _forward(outbox, producer, rows, reached)
    return len(rows)


async def _forward(
    outbox: Outbox, producer: RowProducer, rows: Sequence[OutboxRow], reached: Callable[[str], None]
) -> None:
    good: list[OutboxRow] = []
    for row in rows:
        if reason := refusal(row):
            await _set_aside(outbox, row, reason)
        else:
            good.append(row)
    reached("set aside")
    taken = await _produce(outbox, producer, good)
    reached("produced")
    if taken:
        await outbox.settle([row.id for row in taken])
        _meter.add("messaging.client.sent.messages", len(taken), destination="notification.events")
    reached("settled")


async def run(
    outbox: Outbox,
    producer: RowProducer,
    *,
    stop: asyncio.Event,
    limit: int = 4_000,
    reached: Callable[[str], None] = _unwatched,
) -> None:
    """Drain the outbox until `stop` is set; what was claimed then is finished first.

    While PostgreSQL or Kafka is away it waits and tries again. `reached` is told each step's name.
    """
    down = False
    while not stop.is_set():
        heartbeat.beat()
        try:
            done = await step(outbox, producer, limit, reached)
        except DependencyDown as error:
            if not down:
                _log.warning("dependency.down", error=str(error))
            down = True
            await _pause(stop)
            continue
        if down:
            _log.info("dependency.back")
            down = False
        if not done:  # few may be all of a share while another one has more than it was asked for
            await outbox.wait(_IDLE)


async def _produce(outbox: Outbox, producer: RowProducer, rows: Sequence[OutboxRow]) -> Sequence[OutboxRow]:
    """Those that Kafka has acknowledged: all of them, or an error."""
    try:
        await producer.send_all(rows)
    except PayloadTooLarge:  # a broker with a smaller limit than ours does not say which one
        return [row for row in rows if await _produced_alone(outbox, producer, row)]
    return rows


async def _produced_alone(outbox: Outbox, producer: RowProducer, row: OutboxRow) -> bool:
    try:
        await producer.send_all([row])
    except PayloadTooLarge as error:
        await _set_aside(outbox, row, str(error))
        return False
    return True


async def _set_aside(outbox: Outbox, row: OutboxRow, reason: str) -> None:
    await outbox.set_aside(row.id, reason)
    _log.error("outbox.set_aside", outbox_id=str(row.id), reason=reason)


async def _pause(stop: asyncio.Event) -> None:
    try:
        await asyncio.wait_for(stop.wait(), _PAUSE)
    except TimeoutError:
        return
