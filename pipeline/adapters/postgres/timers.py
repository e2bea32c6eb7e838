"""Holds as durable timers in PostgreSQL, shared by all processes of the hold stage."""

from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from datetime import datetime
from operator import attrgetter

import asyncpg

from pipeline.adapters.postgres.pool import session, transaction
from pipeline.adapters.postgres.statements import load
from pipeline.model.hold import Timer

_SQL = load("timers")
_COLUMNS = attrgetter("topic", "partition", "offset", "wake_at", "key", "value")


class PostgresTimers:
    """The port `Timers`."""

    def __init__(self, pool: asyncpg.Pool) -> None:
        self._pool = pool

    async def store(self, timers: Sequence[Timer]) -> None:
        """Store in one statement; those that are there stay as they are. Raises DependencyDown."""
        if not timers:
            return
        columns = zip(*map(_COLUMNS, timers), strict=True)
        async with session(self._pool) as connection:
            await connection.execute(_SQL["store"], *map(list, columns))

    @asynccontextmanager
    async def due(self, now: datetime, limit: int) -> AsyncGenerator[Sequence[Timer]]:
        """The timers that wake at `now` or before, deleted when the block ends without an error.

        They are deleted at once in an open transaction, so a process that dies in the block, or a lost
        connection, brings them back. Raises DependencyDown.
        """
        async with transaction(self._pool) as connection:
            rows = await connection.fetch(_SQL["take"], now, limit)
            timers = [Timer(**row) for row in rows]
            yield sorted(timers, key=attrgetter("wake_at", "topic", "partition", "offset"))

    async def next(self) -> datetime | None:
        """When the next timer wakes; None when there is none. Raises DependencyDown."""
        async with session(self._pool) as connection:
            return await connection.fetchval(_SQL["next"])
