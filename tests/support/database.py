"""A migrated database for a test, from the DSN of an empty one."""

from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from typing import Any

import asyncpg

from pipeline.adapters.postgres.migrate import migrate
from pipeline.adapters.postgres.pool import close, connect, session


@asynccontextmanager
async def migrated(dsn: str) -> AsyncGenerator[asyncpg.Pool]:
    """A pool on a database that has all tables."""
    pool = await connect(dsn)
    try:
        async with session(pool) as connection:
            await migrate(connection)
        yield pool
    finally:
        await close(pool)


async def dump(pool: asyncpg.Pool, *tables: str) -> dict[str, Sequence[dict[str, Any]]]:
    """All rows of these tables of `everpost`, in a fixed order."""
    async with session(pool) as connection:
        return {
            table: [
                dict(row)
                for row in await connection.fetch(f"select * from everpost.{table} t order by t::text")
            ]
            for table in tables
        }
