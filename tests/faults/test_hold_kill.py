"""`kill -9` of a real hold process between each two of its steps."""

import asyncio
import signal
import sys
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from datetime import datetime, timedelta

import asyncpg
import pytest

from pipeline.adapters.kafka.produce import KafkaProducer
from pipeline.adapters.postgres.pool import session
from pipeline.adapters.wire.codec import Wire
from pipeline.adapters.wire.ids import LockFile
from pipeline.model.event import user_key
from pipeline.model.hold import Hold
from pipeline.model.record import Outgoing
from pipeline.model.topics import HOLDS, RELEASED
from tests.support.database import migrated
from tests.support.eventually import eventually
from tests.support.hold import hold
from tests.support.make import NOW
from tests.support.topics import create_topics, read_tenant

pytestmark = [pytest.mark.integration, pytest.mark.faults]
WIRE = Wire(LockFile())
TENANT = "hold-kill"
KEEPING, RELEASING = ("read", "stored", "committed"), ("claimed", "produced", "forgotten")
HOLDS_A_KILL = 10
PARTITIONS = 4
LATER = NOW + timedelta(days=31)


def made(number: int, *, due_at: datetime = LATER) -> Hold:
    """A hold of a user of its own, in one of the partitions."""
    return hold(
        event_id=f"e-{number}",
        user_id=f"u-{number}",
        tenant=TENANT,
        due_at=due_at,
        expires_at=due_at + timedelta(days=1),
        source_partition=number % PARTITIONS,
        source_offset=1_000_000 + number,  # no real event of another test stands there
    )


async def write(kafka: str, holds: Sequence[Hold]) -> None:
    """As the router does: each into the partition number of its event."""
    producer = await KafkaProducer.open(kafka, client_id="test")
    records = [
        Outgoing(
            topic=HOLDS,
            key=user_key(one.tenant, one.user_id),
            value=WIRE.encode(one),
            partition=one.source_partition,
        )
        for one in holds
    ]
    try:
        await producer.send_all(records)
    finally:
        await producer.aclose()


@asynccontextmanager
async def stage(
    dsn: str, kafka: str, now: datetime, fatal: str
) -> AsyncGenerator[asyncio.subprocess.Process]:
    """A hold process, which is gone at the end."""
    child = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "tests.faults.hold_process", dsn, kafka, now.isoformat(), fatal
    )
    try:
        yield child
    finally:
        if child.returncode is None:
            child.terminate()
            await asyncio.wait_for(child.wait(), 60)


async def killed(dsn: str, kafka: str, now: datetime, fatal: str) -> None:
    """Run a hold process until it has killed itself."""
    async with stage(dsn, kafka, now, fatal) as child:
        assert await asyncio.wait_for(child.wait(), 60) == -signal.SIGKILL


async def waiting(pool: asyncpg.Pool) -> int:
    """How many timers of this test there are; the broker is shared, and others hold events too."""
    ours = user_key(TENANT, "%")
    async with session(pool) as connection:
        return await connection.fetchval("select count(*) from everpost.timer where key like $1", ours)


async def test_whenever_it_is_killed_every_hold_is_released_and_none_before_its_time(
    postgres: str, kafka: str
) -> None:
    """Each at least once, byte for byte, in its event's partition; a kill repeats one batch at most."""
    create_topics(kafka, PARTITIONS)
    written: list[Hold] = []
    async with migrated(postgres) as pool:
        for fatal in KEEPING:
            more = [made(len(written) + n) for n in range(HOLDS_A_KILL)]
            await write(kafka, more)
            written += more
            await killed(postgres, kafka, NOW, fatal)
        async with stage(postgres, kafka, LATER - timedelta(seconds=1), ""):

            async def all_kept() -> bool:
                return await waiting(pool) == len(written)

            await eventually(all_kept, 60)
        assert await asyncio.to_thread(read_tenant, kafka, RELEASED, TENANT) == []
        for fatal in RELEASING:
            await killed(postgres, kafka, LATER, fatal)
        async with stage(postgres, kafka, LATER, ""):

            async def none_left() -> bool:
                return not await waiting(pool)

            await eventually(none_left, 60)
    messages = await asyncio.to_thread(read_tenant, kafka, RELEASED, TENANT)
    found = [(m.partition(), WIRE.decode(Hold, v)) for m in messages if isinstance(v := m.value(), bytes)]
    assert {one.event_id: one for _, one in found} == {one.event_id: one for one in written}
    assert all(partition == one.source_partition for partition, one in found)
    # Only the kill between producing and forgetting repeats, and it repeats its batch.
    assert len(written) <= len(found) <= len(written) + 7
