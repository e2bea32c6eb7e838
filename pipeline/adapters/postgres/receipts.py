"""Receipts: whose a delivery is, and what was told of it."""

import asyncpg

from pipeline.adapters.postgres.pool import session
from pipeline.adapters.postgres.statements import load
from pipeline.model.delivery import Owner

_SQL = load("receipts")


class PostgresOwners:
    """The port `Owners`."""

    def __init__(self, pool: asyncpg.Pool) -> None:
        self._pool = pool

    async def find(self, delivery_id: str) -> Owner | None:
        """Whose it is; None while the log does not know it. Raises DependencyDown."""
        if "\0" in delivery_id:  # PostgreSQL has no such text
            return None
        async with session(self._pool) as connection:
            row = await connection.fetchrow(_SQL["owner"], delivery_id)
        return None if row is None else Owner(**row)


class PostgresReceipts:
    """The port `Receipts`."""

    def __init__(self, pool: asyncpg.Pool) -> None:
        self._pool = pool

    async def fate(self, delivery_id: str) -> str | None:
        """What became of it, in the words of `connectors.contract.Fate`. Raises DependencyDown."""
        async with session(self._pool) as connection:
            found: str | None = await connection.fetchval(_SQL["fate"], delivery_id)
        return found
