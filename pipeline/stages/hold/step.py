"""The two loops of the hold stage, as numbered steps; the fault tests kill the process between each two.

Keeping:

    1 read       notification.holds
    2 store      each hold as a timer; the same again changes nothing
    3 dead       what is no hold goes to notification.dead, acknowledged
    4 commit     the offsets

Releasing:

    5 claim      the timers that are due; other processes of the stage pass them over
    6 produce    to notification.released, in the partition number they came from, acknowledged
    7 forget     delete them

A crash before 4 stores holds again, also those that are released by then, and one before 7 releases
them again: the router lets a release pass once. Forgetting first would lose what was accepted.
"""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from pipeline.model.errors import DependencyDown
from pipeline.model.record import Incoming
from pipeline.model.topics import HOLDS, RELEASED
from pipeline.observe import Log, Meter, Outage, heartbeat, span
from pipeline.ports import Clock, Codec, Consumer, Producer, Timers
from pipeline.stages.hold.decide import nap, read, to_release

_WAIT = 0.5  # seconds that a fetch waits for its first record, and so how long a stop may take
_AWAY = 1.0  # seconds before the next try when Postgres or Kafka is away
_log = Log(__name__)


def _unwatched(_step: str) -> None:
    """Nobody watches the steps outside of the fault tests."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Holder:
    """Everything that the loops work with."""

    consumer: Consumer
    producer: Producer
    wire: Codec
    timers: Timers
    clock: Clock
    meter: Meter
    limit: int = 500  # holds stored or released at once
    reached: Callable[[str], None] = _unwatched  # is told each step's name


async def run(holder: Holder, stop: asyncio.Event) -> None:
    """Keep and release until `stop` is set. Raises what ends the process."""
    _log.info("stage.started")
    try:
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(_keep_on(holder, stop))
            tasks.create_task(_release_on(holder, stop))
    except ExceptionGroup as group:  # one loop failed and the other was cancelled: there is one cause
        raise group.exceptions[0] from group
    _log.info("stage.stopped")


async def keep(holder: Holder, batch: Sequence[Incoming]) -> None:
    """Make a batch of holds durable. Raises DependencyDown: the same batch again is harmless."""
    found = read(batch, holder.wire, holder.clock())
    await holder.timers.store(found.timers)
    holder.reached("stored")
    if found.dead:
        await holder.producer.send_all(found.dead)
        _log.error("record.rejected", count=len(found.dead))
    holder.meter.add("messaging.client.consumed.messages", len(batch), destination=HOLDS)


async def release(holder: Holder) -> int:
    """Release what is due, up to `limit`; gives how many. Raises DependencyDown: they stay due."""
    async with holder.timers.due(holder.clock(), holder.limit) as timers:
        holder.reached("claimed")
        if timers:
            with span("process batch", stage="hold"):
                await holder.producer.send_all([to_release(timer) for timer in timers])
        holder.reached("produced")
    holder.reached("forgotten")
    holder.meter.add("messaging.client.sent.messages", len(timers), destination=RELEASED)
    return len(timers)


async def _keep_on(holder: Holder, stop: asyncio.Event) -> None:
    batch: Sequence[Incoming] = ()
    outage = Outage(_log)
    while not stop.is_set():
        heartbeat.beat()
        try:
            batch = batch or await holder.consumer.fetch({HOLDS: holder.limit}, _WAIT)
            if batch:
                holder.reached("read")
                with span("process batch", stage="hold"):
                    await keep(holder, batch)
                await holder.consumer.commit(batch)
                holder.reached("committed")
                batch = ()
        except DependencyDown as error:
            outage.down(error)
            await _stay(holder.consumer, stop)
        else:
            outage.back()


async def _release_on(holder: Holder, stop: asyncio.Event) -> None:
    outage = Outage(_log)
    while not stop.is_set():
        try:
            count = await release(holder)
            rest = 0.0 if count == holder.limit else nap(await holder.timers.next(), holder.clock())
        except DependencyDown as error:
            outage.down(error)
            rest = _AWAY
        else:
            outage.back()
        await _rest(stop, rest)


async def _stay(consumer: Consumer, stop: asyncio.Event) -> None:
    """Wait as a member of the group: one that does not ask for 300 s is put out."""
    try:
        await consumer.fetch({}, _AWAY)
    except DependencyDown:
        await _rest(stop, _AWAY)


async def _rest(stop: asyncio.Event, seconds: float) -> None:
    try:
        await asyncio.wait_for(stop.wait(), seconds)
    except TimeoutError:
        return
