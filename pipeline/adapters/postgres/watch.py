"""What PostgreSQL knows of those that stand still, and who watches over them."""

from collections.abc import Sequence
from contextlib import suppress
from datetime import datetime

import asyncpg
from asyncpg.pool import PoolConnectionProxy

from pipeline.adapters.postgres.errors import translated
from pipeline.adapters.postgres.pool import CONNECT, session
from pipeline.adapters.postgres.statements import load
from pipeline.model.errors import DependencyDown
from pipeline.model.watch import Held, Hour, Open, Waits

_SQL = load("watch")
_LEADER = 0x7761746368  # "watch" in ASCII


async def open_deliveries(pool: asyncpg.Pool, before: datetime, limit: int) -> tuple[Sequence[Open], int]:
    """Deliveries without an end that should have moved before then, and how many there are beyond the limit.

    Raises DependencyDown.
    """
    async with session(pool) as connection:
        rows = [dict(row) for row in await connection.fetch(_SQL["deliveries"], before, limit)]
    total = max([row.pop("total") for row in rows], default=0)
    return [Open(**row) for row in rows], total - len(rows)


async def still_open(pool: asyncpg.Pool, seen: Sequence[Open]) -> Sequence[Open]:
    """Those of them that have not moved since they were seen. Raises DependencyDown."""
    async with session(pool) as connection:
        rows = await connection.fetch(
            _SQL["still_open"], [one.delivery_id for one in seen], [one.attempt for one in seen]
        )
    left = {row["delivery_id"] for row in rows}
    return [one for one in seen if one.delivery_id in left]


async def attempts(pool: asyncpg.Pool, delivery_ids: Sequence[str]) -> frozenset[tuple[str, int]]:
    """Their attempts that the log knows, by delivery and number. Raises DependencyDown."""
    async with session(pool) as connection:
        rows = await connection.fetch(_SQL["attempts"], delivery_ids)
    return frozenset((row["delivery_id"], row["attempt"]) for row in rows)


async def held_too_long(pool: asyncpg.Pool, before: datetime, limit: int) -> Sequence[Held]:
    """Held events that were due before then. Raises DependencyDown."""
    async with session(pool) as connection:
        return [Held(**row) for row in await connection.fetch(_SQL["held"], before, limit)]


async def unrelayed(pool: asyncpg.Pool, before: datetime, limit: int) -> Sequence[Waits]:
    """Outbox rows that wait since before then. Raises DependencyDown."""
    async with session(pool) as connection:
        return [Waits(**row) for row in await connection.fetch(_SQL["outbox"], before, limit)]


async def by_hour(pool: asyncpg.Pool, since: datetime) -> Sequence[Hour]:
    """The balance by tenant and hour, of what was decided or put into the outbox since then.

    Raises DependencyDown.
    """
    async with session(pool) as connection:
        return [Hour(**row) for row in await connection.fetch(_SQL["hours"], since)]


class Lead:
    """One process watches, by a session lock on a connection that it keeps; the others stand by."""

    def __init__(self, pool: asyncpg.Pool) -> None:
        self._pool = pool
        self._connection: PoolConnectionProxy | None = None

    async def mine(self) -> bool:
        """Whether it is this process. Raises DependencyDown; the lead is then another's to take."""
        try:
            with translated():
                if self._connection is not None:
                    await _alive(self._connection)  # the lock lives as long as the connection
                    return True
                self._connection = await self._pool.acquire(timeout=CONNECT)
                if await self._connection.fetchval(_SQL["lead"], _LEADER):
                    return True
        except BaseException:
            self.close()
            raise
        self.close()
        return False

    def close(self) -> None:
        """Give up the lead: end the connection, which the pool opens anew when it needs it."""
        connection, self._connection = self._connection, None
        if connection is not None:
            with suppress(asyncpg.InterfaceError):  # it broke, and the pool has it back already
                connection.terminate()


async def _alive(connection: PoolConnectionProxy) -> None:
    try:
        await connection.execute("select 1")
    except asyncpg.InterfaceError as error:  # when the server closes it, the pool takes it back
        raise DependencyDown(f"PostgreSQL: the connection of the watch is gone: {error}") from error
