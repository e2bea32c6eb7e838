"""Who has changed, as PostgreSQL tells a reader that keeps profiles in memory."""

from collections.abc import AsyncGenerator
from datetime import UTC, datetime

import asyncpg
import pytest
import pytest_asyncio

from pipeline.adapters.postgres import profiles as table
from pipeline.adapters.postgres.changes import ProfileChanges
from pipeline.adapters.postgres.migrate import migrate
from pipeline.adapters.postgres.pool import close, connect, session
from pipeline.adapters.postgres.profiles import Suppression, save_profiles
from tests.support.make import profile

pytestmark = pytest.mark.integration


@pytest_asyncio.fixture
async def pool(postgres: str) -> AsyncGenerator[asyncpg.Pool]:
    """A database with three users."""
    made = await connect(postgres, size=4)
    async with session(made) as connection:
        await migrate(connection)
        await save_profiles(connection, [profile(f"u-{n}", ["sms", "email"]) for n in range(3)])
    yield made
    await close(made)


async def test_every_way_to_change_a_profile_is_told_once(pool: asyncpg.Pool) -> None:
    """Preference, switch, quiet hours, address, suppression list, removal; and a tenant's default for all."""
    changes = ProfileChanges(pool)
    assert await changes.since_last() is None
    assert await changes.since_last() == []
    async with session(pool) as c:
        await table.set_preference(c, "acme", "u-0", "flights", "sms", allowed=False)
        assert await changes.since_last() == [("acme", "u-0")]
        await table.set_enabled(c, "acme", "u-1", enabled=False)
        await table.set_quiet_hours(c, "acme", "u-2", datetime.min.time(), datetime.min.time())
        assert sorted(await changes.since_last() or ()) == [("acme", "u-1"), ("acme", "u-2")]
        bad = Suppression(
            tenant="acme",
            channel="email",
            value=profile("u-1", ["email"]).addresses[0].value,
            reason="hard_bounce",
            at=datetime.now(UTC),  # noqa: TID251 - a test's own clock
        )
        await table.suppress(c, [bad])
        assert ("acme", "u-1") in (await changes.since_last() or ())
        await table.deactivate_address(
            c,
            profile("u-2", ["sms"]).addresses[0].address_id,
            "dead",
            datetime.now(UTC),  # noqa: TID251 - a test's own clock
        )
        assert await changes.since_last() == [("acme", "u-2")]
        await table.set_tenant_default(c, "acme", "flights", "", allowed=False)
        assert await changes.since_last() == [("acme", "")]
        await c.execute("delete from everpost.profile where user_id = 'u-0'")
        assert await changes.since_last() == [("acme", "u-0")]
    assert await changes.since_last() == []


async def test_a_change_that_commits_late_is_not_missed(pool: asyncpg.Pool) -> None:
    """A transaction that began before and ends after others is told when it ends, and only then."""
    changes = ProfileChanges(pool)
    await changes.since_last()
    async with session(pool) as slow, session(pool) as quick:
        transaction = slow.transaction()
        await transaction.start()
        await table.set_preference(slow, "acme", "u-0", "flights", "sms", allowed=False)
        await table.set_preference(quick, "acme", "u-1", "flights", "sms", allowed=False)
        assert await changes.since_last() == [("acme", "u-1")]
        assert await changes.since_last() == []
        await transaction.commit()
    assert await changes.since_last() == [("acme", "u-0")]


async def test_who_slept_too_long_trusts_nothing(pool: asyncpg.Pool, monkeypatch: pytest.MonkeyPatch) -> None:
    """After an hour without a question the answer is: anybody may have changed."""
    changes = ProfileChanges(pool)
    await changes.since_last()
    monkeypatch.setattr("pipeline.adapters.postgres.changes._TRUST", -1.0)
    assert await changes.since_last() is None


async def test_old_changes_are_removed(pool: asyncpg.Pool, monkeypatch: pytest.MonkeyPatch) -> None:
    """The table stays small: what is older than a day goes."""
    async with session(pool) as c:
        await c.execute("update everpost.profile_change set at = at - interval '2 days'")
        await table.set_enabled(c, "acme", "u-1", enabled=False)
    monkeypatch.setattr("pipeline.adapters.postgres.changes._TRIM", -1.0)
    await ProfileChanges(pool).since_last()
    async with session(pool) as c:
        assert await c.fetchval("select count(*) from everpost.profile_change") == 1
