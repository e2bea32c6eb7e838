"""`kill -9` of a real relay process between each two of its steps."""

import asyncio
import signal
import sys

import pytest

from pipeline.adapters.postgres.pool import session, transaction
from pipeline.adapters.wire.codec import Wire
from pipeline.adapters.wire.ids import LockFile
from pipeline.model.event import Event
from pipeline.sdk import new_event, outbox
from tests.support.database import migrated
from tests.support.make import CATALOGUE, NOW
from tests.support.topics import create_topics, read_tenant

pytestmark = [pytest.mark.integration, pytest.mark.faults]
WIRE = Wire(LockFile())
STEPS = ("claimed", "set aside", "produced", "settled")
KILLS = 3  # of each step
ROWS = 20  # committed before each kill
USERS = 4


def made(number: int) -> Event:
    """A valid event."""
    data = {"flight": f"UA {number}"}
    return new_event(
        "flight.cancelled",
        tenant="relay-kill",
        user_id=f"u-{number % USERS}",
        data=data,
        event_id=f"e-{number}",
        created_at=NOW,
    )


async def relay(dsn: str, kafka: str, fatal: str) -> int:
    """Run a relay process to its end; its exit code."""
    child = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "tests.faults.relay_process", dsn, kafka, fatal
    )
    try:
        return await asyncio.wait_for(child.wait(), 60)
    finally:
        if child.returncode is None:
            child.kill()
            await child.wait()


async def test_whenever_it_is_killed_every_committed_event_arrives_in_order(
    postgres: str, kafka: str
) -> None:
    """Each row at least once, in order per user after dropping repeats, none of a rolled-back transaction."""
    create_topics(kafka)
    committed: list[Event] = []
    async with migrated(postgres) as pool:
        for fatal in STEPS * KILLS:
            async with transaction(pool) as connection:
                for _ in range(ROWS):
                    committed.append(made(len(committed)))
                    await outbox.enqueue(connection, committed[-1], catalogue=CATALOGUE)
            async with session(pool) as connection:
                doomed = connection.transaction()
                await doomed.start()
                await outbox.enqueue(connection, made(1_000_000 + len(committed)), catalogue=CATALOGUE)
                await doomed.rollback()
            assert await relay(postgres, kafka, fatal) == -signal.SIGKILL
        assert await relay(postgres, kafka, "") == 0
    messages = await asyncio.to_thread(read_tenant, kafka, "notification.events.normal", "relay-kill")
    arrived = [(m.key(), WIRE.decode(Event, v)) for m in messages if isinstance(v := m.value(), bytes)]
    for user in range(USERS):
        key = f"relay-kill/u-{user}".encode()
        first_copies = dict.fromkeys(event.event_id for its, event in arrived if its == key)
        assert list(first_copies) == [e.event_id for e in committed if e.key == key]
    # A kill between producing and settling repeats at most one batch; any other repeats nothing.
    assert len(committed) <= len(arrived) <= len(committed) + KILLS * 7
