"""The loops of the hold stage over topics and timers in memory, with a clock moved by hand."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from datetime import datetime, timedelta

from structlog.testing import capture_logs

from pipeline.adapters.wire.codec import Wire
from pipeline.adapters.wire.ids import LockFile
from pipeline.model.hold import Hold
from pipeline.model.record import Outgoing
from pipeline.model.topics import DEAD, HOLDS, RELEASED
from pipeline.observe import Meter
from pipeline.stages.hold.step import Holder, run
from tests.support.hold import MemoryTimers, hold
from tests.support.make import NOW
from tests.support.memory_kafka import MemoryConsumer, MemoryKafka, MemoryProducer
from tests.support.sending import eventually

WIRE = Wire(LockFile())
HOUR, MONTH = timedelta(hours=1), timedelta(days=31)


class Rig:
    """The stage and everything around it."""

    def __init__(self, *holds: Hold) -> None:
        self.now = NOW
        self.kafka = MemoryKafka(self.clock)
        self.timers = MemoryTimers()
        self.consumer = MemoryConsumer(self.kafka, [HOLDS])
        self.write(*holds)

    def clock(self) -> datetime:
        """By hand."""
        return self.now

    def write(self, *holds: Hold) -> None:
        """As the router does."""
        self.kafka.write(*(Outgoing(topic=HOLDS, key=b"acme/u-1", value=WIRE.encode(one)) for one in holds))

    def released(self) -> list[Hold]:
        """In order."""
        return [WIRE.decode(Hold, one.value) for one in self.kafka.read(RELEASED)]

    @asynccontextmanager
    async def running(self) -> AsyncGenerator[None]:
        """The stage, stopped at the end as by SIGTERM."""
        stop = asyncio.Event()
        holder = Holder(
            consumer=self.consumer,
            producer=MemoryProducer(self.kafka),
            wire=WIRE,
            timers=self.timers,
            clock=self.clock,
            meter=Meter(),
            limit=2,
        )
        task = asyncio.create_task(run(holder, stop))
        try:
            yield
        finally:
            stop.set()
            await asyncio.wait_for(task, 5)

    async def kept(self, count: int) -> None:
        """Return when so many records are committed."""
        await eventually(lambda: self.kafka.committed.get((HOLDS, 0), 0) == count)


def holds(*waits: timedelta) -> list[Hold]:
    """Holds at consecutive offsets, due after these waits."""
    return [
        hold(event_id=f"e-{n}", due_at=NOW + wait, expires_at=NOW + 2 * MONTH, source_offset=n)
        for n, wait in enumerate(waits)
    ]


async def test_each_hold_is_released_when_it_is_due_not_before() -> None:
    """Earliest first, whatever the batch; a hold of a month waits a month, and nothing is left then."""
    month, hour, now, two = made = holds(MONTH, HOUR, timedelta(), 2 * HOUR)
    rig = Rig(*made)
    async with rig.running():
        await rig.kept(4)
        await eventually(lambda: rig.released() == [now])
        rig.now = NOW + 3 * HOUR
        await eventually(lambda: rig.released() == [now, hour, two])
        rig.now = NOW + MONTH - timedelta(seconds=1)
    assert rig.released() == [now, hour, two]
    async with rig.running():
        rig.now = NOW + MONTH
        await eventually(lambda: rig.released() == [now, hour, two, month])
        await eventually(lambda: not rig.timers.rows)


async def test_a_clock_that_jumps_back_loses_and_repeats_nothing() -> None:
    """What was released stays released; what waits comes once the clock has come up again."""
    first, second = made = holds(HOUR, 2 * HOUR)
    rig = Rig(*made)
    async with rig.running():
        await rig.kept(2)
        rig.now = NOW + HOUR
        await eventually(lambda: rig.released() == [first])
        rig.now = NOW - MONTH
    async with rig.running():
        rig.now = NOW + 2 * HOUR
        await eventually(lambda: rig.released() == [first, second])


async def test_while_postgres_is_away_nothing_is_skipped() -> None:
    """The batch is kept, the offsets stay, and the outage is told once for each loop."""
    rig = Rig(*holds(timedelta(), timedelta()))
    rig.timers.away = True
    with capture_logs() as logs:
        async with rig.running():
            await eventually(lambda: [log["event"] for log in logs].count("dependency.down") == 2)
            assert rig.kafka.committed == {}
            rig.timers.away = False
            await eventually(lambda: len(rig.released()) == 2)
            await rig.kept(2)


async def test_while_kafka_is_away_timers_stay() -> None:
    """Nothing is forgotten before it is acknowledged."""
    rig = Rig(*holds(HOUR))
    async with rig.running():
        await rig.kept(1)
        rig.kafka.refusing = True
        rig.now = NOW + HOUR
        await eventually(lambda: rig.kafka.refused > 0)
        assert rig.timers.rows
        rig.kafka.refusing = False
        await eventually(lambda: len(rig.released()) == 1 and not rig.timers.rows)


async def test_the_same_hold_again_is_one_timer() -> None:
    """The router's topic may bring a record twice."""
    (one,) = holds(HOUR)
    rig = Rig(one, one)
    async with rig.running():
        await rig.kept(2)
        assert len(rig.timers.rows) == 1


async def test_poison_stops_nothing() -> None:
    """Bytes that are no hold are kept in notification.dead, and their offset counts as done."""
    rig = Rig()
    rig.kafka.write(Outgoing(topic=HOLDS, key=b"acme/u-1", value=b"?"))
    rig.write(*holds(timedelta()))
    async with rig.running():
        await rig.kept(2)
        await eventually(lambda: len(rig.released()) == 1)
    assert [letter.value for letter in rig.kafka.read(DEAD)] == [b"?"]
