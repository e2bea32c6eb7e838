"""Who has changed: for a reader that keeps profiles in memory and must not miss an opt-out.

Every change leaves a row with its transaction's number, written by triggers. A reader asks for the rows
of transactions that its last snapshot did not show: each committed one is told once, in whatever order
they commit, and what was committed before the question is in the answer.
"""

import time
from collections.abc import Collection

import asyncpg

from pipeline.adapters.postgres.pool import session
from pipeline.adapters.postgres.statements import load
from pipeline.ports import UserKey

_SQL = load("profiles")
_TRUST = 3_600.0  # seconds without a question, after which rows may be gone: they are kept for a day
_TRIM = 600.0  # seconds between two times that old rows are removed


class ProfileChanges:
    """One reader's place in the changes."""

    def __init__(self, pool: asyncpg.Pool) -> None:
        self._pool = pool
        self._snapshot: str | None = None
        self._server: object = None  # since when the server runs that gave the snapshot
        self._asked = 0.0  # monotonic seconds
        self._trimmed = time.monotonic()

    async def since_last(self) -> Collection[UserKey] | None:
        """Whose profile may be another than at the last question; None: anybody's.

        None the first time, after an hour without a question, and when the server was started anew: it
        may be another one, whose transactions have other numbers. (tenant, "") stands for everybody of
        a tenant. Raises DependencyDown; then the question stays open.
        """
        began = time.monotonic()
        async with session(self._pool) as connection:
            row = await connection.fetchrow(_SQL["changes"], self._snapshot)
            if began - self._trimmed > _TRIM:
                await connection.execute(_SQL["trim_changes"])
                self._trimmed = began
        known = (
            self._snapshot is not None
            and self._server == row["server_since"]
            and began - self._asked < _TRUST
        )
        self._snapshot, self._server, self._asked = row["snapshot"], row["server_since"], began
        return list(zip(row["tenants"], row["users"], strict=True)) if known else None
