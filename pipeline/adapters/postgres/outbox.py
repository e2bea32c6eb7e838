"""The outbox table: written within a service's transaction, drained by relays that divide it among them.

Of each share the oldest rows are claimed, in their order; all rows of a user are in one share (`shares.py`).
There is no cursor: numbers are given before the commit, and `id > last` would skip who commits late.
"""

import asyncio
from collections.abc import Sequence
from collections.abc import Set as AbstractSet
from uuid import UUID, uuid5

import asyncpg
import orjson

from pipeline.adapters.postgres.errors import translated
from pipeline.adapters.postgres.pool import Connection
from pipeline.adapters.postgres.shares import LEASE, Shares
from pipeline.adapters.postgres.statements import load
from pipeline.model.event import Event
from pipeline.model.record import Headers, Outgoing
from pipeline.ports import OutboxRow

_SQL = load("outbox")
_BYTES = 16 * 1024 * 1024  # of payload that a claim brings: 4,000 rows of the largest size would be 1 GB
_ROWS = UUID("9a1d0a52-0f0e-5c3b-8d52-4f1c2f6b7e11")  # fixed for ever: row ids derive from it


async def insert(connection: Connection, event: Event, record: Outgoing) -> tuple[str, bool]:
    """Write one event, ready to be produced; gives the row's id and whether it is new.

    The id derives from tenant, user and event id, so the same event again is no second row.
    """
    id = uuid5(_ROWS, "\x1f".join((event.tenant, event.user_id, event.event_id)))
    headers = orjson.dumps({name: value.decode() for name, value in record.headers}).decode()
    key = (record.key or b"").decode()
    with translated():
        seq = await connection.fetchval(
            _SQL["enqueue"], id, record.topic, key, event.event_id, event.type, record.value, headers
        )
    return str(id), seq is not None


class PostgresOutbox:
    """The port `Outbox`: the rows of the shares that it holds, in one session of PostgreSQL that it keeps."""

    def __init__(self, pool: asyncpg.Pool, *, lease: float = LEASE) -> None:
        self._wake = asyncio.Event()
        self._shares = Shares(pool, self._wake.set, lease)

    @property
    def held(self) -> AbstractSet[int]:
        """The shares whose rows it claims."""
        return self._shares.held

    async def claim(self, limit: int) -> Sequence[OutboxRow]:
        """The oldest rows of each share that it holds. Raises DependencyDown."""
        self._wake.clear()
        await self._shares.join()
        held = sorted(self._shares.held)
        if not held:
            return []
        rows = await self._shares.fetch(_SQL["claim"], held, -(-limit // len(held)), _BYTES // len(held))
        if rows:
            self._shares.owe()
        return [_row(row) for row in rows]

    async def settle(self, ids: Sequence[UUID]) -> None:
        """Delete rows. Raises DependencyDown; they are then produced again, and the router drops them."""
        await self._shares.fetch(_SQL["settle"], ids)

    async def set_aside(self, id: UUID, error: str) -> None:
        """Move a row to the parked ones, with its reason. Raises DependencyDown."""
        await self._shares.fetch(_SQL["set_aside"], id, error)

    async def wait(self, seconds: float) -> None:
        """Until the next commit of a row, or `seconds`."""
        try:
            await asyncio.wait_for(self._wake.wait(), seconds)
        except TimeoutError:
            return

    async def aclose(self) -> None:
        """Leave the shares to the others."""
        await self._shares.leave()


def _row(row: asyncpg.Record) -> OutboxRow:
    id, topic, key, value, headers = row
    return OutboxRow(id, topic, key.encode(), value, _headers(headers) if headers else ())


def _headers(text: str) -> Headers:
    return tuple((name, value.encode()) for name, value in orjson.loads(text).items())
