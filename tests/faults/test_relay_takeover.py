"""Two real relay processes: what one held when it was killed, or stopped, goes out by the other one."""

import asyncio
import os
import signal
import sys
from asyncio.subprocess import Process
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path

import asyncpg
import pytest

from pipeline.adapters.postgres.pool import session, transaction
from pipeline.adapters.postgres.shares import CLASS, MEMBER
from pipeline.adapters.wire.codec import Wire
from pipeline.adapters.wire.ids import LockFile
from pipeline.model.event import Event
from pipeline.model.shares import SHARES
from pipeline.sdk import new_event, outbox
from tests.support.database import migrated
from tests.support.eventually import eventually
from tests.support.make import CATALOGUE, NOW
from tests.support.topics import create_topics, read_tenant

pytestmark = [pytest.mark.integration, pytest.mark.faults]
WIRE = Wire(LockFile())
USERS = 64  # so many that every share has some
_HELD = """
select array_agg(held order by held) from (
    select count(*) filter (where objid <> $2::integer)::integer as held from pg_locks
    where locktype = 'advisory' and classid = $1::integer and granted
      and database = (select oid from pg_database where datname = current_database())
    group by pid
) relays
"""


def made(number: int) -> Event:
    """A valid event."""
    data = {"flight": f"UA {number}"}
    user = f"u-{number % USERS}"
    return new_event(
        "flight.cancelled", tenant="takeover", user_id=user, data=data, event_id=f"e-{number}", created_at=NOW
    )


@asynccontextmanager
async def relay(dsn: str, kafka: str, home: Path) -> AsyncGenerator[Process]:
    """`everpost run relay`, until it has ended or the block does."""
    environment = os.environ | {
        "EVERPOST_BOOTSTRAP_SERVERS": kafka,
        "EVERPOST_POSTGRES_DSN": dsn,
        "EVERPOST_HOME": str(home),
        "EVERPOST_LOG_LEVEL": "warning",
    }
    command = (sys.executable, "-m", "pipeline.cli.main", "run", "relay")
    child = await asyncio.create_subprocess_exec(*command, env=environment)
    try:
        yield child
    finally:
        if child.returncode is None:
            child.kill()
        await child.wait()


async def divided(pool: asyncpg.Pool, *held: int) -> None:
    """Wait until the relays hold so many shares each."""

    async def are() -> bool:
        async with session(pool) as connection:
            return await connection.fetchval(_HELD, CLASS, MEMBER) == list(held)

    await eventually(are)


async def put(pool: asyncpg.Pool, first: int) -> None:
    """Two events of each user."""
    async with transaction(pool) as connection:
        for number in range(first, first + 2 * USERS):
            await outbox.enqueue(connection, made(number), catalogue=CATALOGUE)


async def drained(pool: asyncpg.Pool) -> None:
    """Wait until no row waits."""

    async def empty() -> bool:
        async with session(pool) as connection:
            return await connection.fetchval("select count(*) = 0 from everpost.outbox")

    await eventually(empty)


async def test_the_other_one_takes_over_in_seconds(postgres: str, kafka: str, tmp_path: Path) -> None:
    """A relay is stopped, goes on, another one is killed: all goes out by who is left, in order per user."""
    create_topics(kafka)
    async with (
        migrated(postgres) as pool,
        relay(postgres, kafka, tmp_path) as one,
        relay(postgres, kafka, tmp_path) as other,
    ):
        await divided(pool, SHARES // 2, SHARES // 2)
        await put(pool, 0)
        one.send_signal(signal.SIGSTOP)  # its connection stays open: PostgreSQL ends its session by the lease
        await put(pool, 2 * USERS)
        await drained(pool)
        await divided(pool, SHARES)
        one.send_signal(signal.SIGCONT)
        await divided(pool, SHARES // 2, SHARES // 2)
        other.kill()
        await put(pool, 4 * USERS)
        await drained(pool)
        await divided(pool, SHARES)
    messages = await asyncio.to_thread(read_tenant, kafka, "notification.events.normal", "takeover")
    events = [WIRE.decode(Event, v) for m in messages if isinstance(v := m.value(), bytes)]
    for user in range(USERS):
        ids = dict.fromkeys(event.event_id for event in events if event.user_id == f"u-{user}")
        assert list(ids) == [f"e-{number}" for number in range(user, 6 * USERS, USERS)]
