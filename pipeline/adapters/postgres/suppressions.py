"""The suppression list as people read it; the router reads it with the profiles (`profiles.py`)."""

import asyncpg

from pipeline.adapters.postgres.pool import session
from pipeline.adapters.postgres.profiles import Suppression
from pipeline.adapters.postgres.statements import load

_SQL = load("suppressions")


async def listed(pool: asyncpg.Pool, tenant: str, limit: int) -> tuple[Suppression, ...]:
    """The addresses of a tenant that were listed last, newest first. Raises DependencyDown."""
    async with session(pool) as connection:
        return tuple(Suppression(**row) for row in await connection.fetch(_SQL["latest"], tenant, limit))
