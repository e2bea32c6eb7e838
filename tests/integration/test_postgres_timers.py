"""Timers on a real PostgreSQL."""

from collections.abc import Sequence
from datetime import datetime, timedelta

import pytest

from pipeline.adapters.postgres.timers import PostgresTimers
from pipeline.model.errors import DependencyDown
from pipeline.model.hold import Timer
from tests.support.database import migrated
from tests.support.make import NOW

pytestmark = pytest.mark.integration
_TERMINATE = """
select pg_terminate_backend(pid) from pg_stat_activity
where pid <> pg_backend_pid() and state = 'idle in transaction' and datname = current_database()
"""
HOUR, MONTH = timedelta(hours=1), timedelta(days=31)


def timer(offset: int, wait: timedelta) -> Timer:
    """A timer that wakes after `wait`."""
    return Timer(
        topic="notification.events.bulk",
        partition=1,
        offset=offset,
        wake_at=NOW + wait,
        key=b"acme/\xff",
        value=b"\0\1",
    )


async def taken(timers: PostgresTimers, now: datetime, limit: int = 10) -> Sequence[Timer]:
    """What is due, forgotten."""
    async with timers.due(now, limit) as found:
        return found


async def test_a_timer_survives_until_it_is_due(postgres: str) -> None:
    """Byte for byte, the earliest first, at most the limit; and `next` tells when to look again."""
    month, now, hour = timer(1, MONTH), timer(2, timedelta()), timer(3, HOUR)
    async with migrated(postgres) as pool:
        timers = PostgresTimers(pool)
        assert await timers.next() is None
        await timers.store([month, now, hour])
        await timers.store([hour, hour])
        await timers.store([])
        assert await timers.next() == NOW
        assert await taken(timers, NOW + HOUR, limit=1) == [now]
        assert await taken(timers, NOW + HOUR) == [hour]
        assert await taken(timers, NOW + MONTH - timedelta(microseconds=1)) == []
        assert await timers.next() == NOW + MONTH
        assert await taken(timers, NOW + MONTH) == [month]
        assert await timers.next() is None


async def test_an_error_in_the_block_keeps_the_timers(postgres: str) -> None:
    """Kafka did not acknowledge: they are due again."""
    async with migrated(postgres) as pool:
        timers = PostgresTimers(pool)
        await timers.store([timer(1, HOUR)])
        with pytest.raises(DependencyDown, match="Kafka"):
            async with timers.due(NOW + HOUR, 10):
                raise DependencyDown("Kafka")
        assert await taken(timers, NOW + HOUR) == [timer(1, HOUR)]


async def test_two_processes_share_the_timers(postgres: str) -> None:
    """What one has in its hands the other passes over, without waiting for it."""
    first, second = timer(1, HOUR), timer(2, HOUR)
    async with migrated(postgres) as pool:
        timers = PostgresTimers(pool)
        await timers.store([first, second])
        async with timers.due(NOW + HOUR, 1) as one:
            other = await taken(timers, NOW + HOUR)
        assert {t.offset for t in (*one, *other)} == {1, 2}
        assert (len(one), len(other)) == (1, 1)


async def test_a_server_that_ends_the_connection_brings_the_timers_back(postgres: str) -> None:
    """As a process that is killed between producing and forgetting."""
    async with migrated(postgres) as pool:
        timers = PostgresTimers(pool)
        await timers.store([timer(1, HOUR)])

        async def cut_off() -> None:
            async with timers.due(NOW + HOUR, 10) as found:
                assert len(found) == 1
                await pool.execute(_TERMINATE)

        with pytest.raises(DependencyDown):
            await cut_off()
        assert await taken(timers, NOW + HOUR) == [timer(1, HOUR)]
