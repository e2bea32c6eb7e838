"""Migrations on a real PostgreSQL."""

import asyncio

import asyncpg
import pytest

from pipeline.adapters.postgres.migrate import migrate, migrations
from pipeline.adapters.postgres.pool import connect, session
from pipeline.model.errors import ConfigurationError, DependencyDown

pytestmark = pytest.mark.integration


async def test_each_is_applied_once_even_by_two_programs_at_once(postgres: str) -> None:
    """Two stages that start together on an empty database do not meet half-made tables."""
    pool = await connect(postgres)
    try:
        async with session(pool) as first, session(pool) as second:
            done = await asyncio.gather(migrate(first), migrate(second))
        assert sorted(done, key=len) == [[], [m.version for m in migrations()]]
    finally:
        await pool.close()


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ("update everpost.schema_version set sha256 = 'other' where version = 1", "0001 was changed"),
        (
            "insert into everpost.schema_version (version, name, sha256) values (9999, 'future', '')",
            "the database has migration 9999",
        ),
    ],
)
async def test_a_history_that_is_not_ours_is_refused(postgres: str, change: str, words: str) -> None:
    """A changed file, or a database of a newer program, is said, not worked over."""
    connection = await asyncpg.connect(postgres)
    try:
        await migrate(connection)
        await connection.execute(change)
        with pytest.raises(ConfigurationError, match=words):
            await migrate(connection)
    finally:
        await connection.close()


async def test_a_wrong_dsn_is_said_at_once(postgres: str) -> None:
    """Nobody there is a dependency that is down; no such database is a setting that is wrong."""
    with pytest.raises(DependencyDown, match="does not answer"):
        await connect("postgresql://postgres@127.0.0.1:1/postgres")
    with pytest.raises(ConfigurationError, match="EVERPOST_POSTGRES_DSN"):
        await connect(postgres + "_no_such")
