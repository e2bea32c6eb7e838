"""The outbox as an operator sees it: what waits, what is parked and why, and who drains it."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

import asyncpg

from pipeline.adapters.postgres.errors import translated
from pipeline.adapters.postgres.pool import Connection, session
from pipeline.adapters.postgres.shares import CLASS, MEMBER
from pipeline.adapters.postgres.statements import load
from pipeline.model.errors import ConfigurationError

_SQL = load("outbox")
_LOOK = 0.5  # seconds between two looks at a slot


@dataclass(frozen=True, slots=True, kw_only=True)
class Parked:
    """A row that Kafka will never take as it is."""

    outbox_id: str
    event_id: str
    key: str
    type: str
    topic: str
    bytes: int
    error: str
    parked_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class State:
    """The outbox at one moment."""

    waiting: int  # rows
    oldest: datetime | None  # when the oldest of them was written
    parked: int  # rows
    shares: Sequence[int]  # how many shares each relay holds


async def state(pool: asyncpg.Pool) -> State:
    """How it stands. Raises DependencyDown."""
    async with session(pool) as connection:
        row = await connection.fetchrow(_SQL["state"], CLASS, MEMBER)
    assert row is not None, "it is one row of scalar queries"
    return State(**row)


async def parked(pool: asyncpg.Pool, limit: int) -> Sequence[Parked]:
    """The rows that were parked last. Raises DependencyDown."""
    async with session(pool) as connection:
        return [Parked(**row) for row in await connection.fetch(_SQL["parked"], limit)]


async def release(connection: Connection, ids: Sequence[str] | None = None) -> int:
    """Let parked rows (all of them, when none are named) wait again, behind the others; gives how many."""
    with translated():
        status: str = await connection.execute(_SQL["release"], ids)
    return int(status.removeprefix("INSERT 0 "))


async def prune(pool: asyncpg.Pool, slot: str, seconds: float) -> int | None:
    """Delete what the reader of a replication slot has passed on; gives how many rows, None when it has not yet.

    For who lets Debezium read the table: it deletes nothing. The rows that are there now are deleted once the
    reader has confirmed PostgreSQL's log up to now, within `seconds`. Raises ConfigurationError when there is no
    such slot, DependencyDown.
    """
    until = asyncio.get_running_loop().time() + seconds
    async with session(pool) as connection, connection.transaction(isolation="repeatable_read"):
        here = await connection.fetchval(
            _SQL["here"]
        )  # and the snapshot: what commits later is not deleted below
        while not (passed := await connection.fetchval(_SQL["passed"], slot, here)):
            if passed is None:
                raise ConfigurationError(
                    f"there is no logical replication slot {slot!r}: see pg_replication_slots"
                )
            if asyncio.get_running_loop().time() > until:
                return None
            await asyncio.sleep(_LOOK)
        status: str = await connection.execute(_SQL["prune"])
    return int(status.removeprefix("DELETE "))
