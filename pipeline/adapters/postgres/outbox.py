"""The outbox table: written within a service's transaction, drained by one relay at a time.

One relay leads, by a session lock on its connection; the others stand by. So the order of a user's
events is the order of the table, and there is nothing to lease, expire or rebalance (decision 0003).
There is no cursor: numbers are given before the commit, and `id > last` would skip who commits late.
"""

import asyncio
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any
from uuid import UUID, uuid5

import asyncpg
import orjson
from asyncpg.pool import PoolConnectionProxy

from pipeline.adapters.postgres.errors import translated
from pipeline.adapters.postgres.pool import CONNECT, Connection
from pipeline.adapters.postgres.statements import load
from pipeline.model.errors import DependencyDown
from pipeline.model.event import Event
from pipeline.model.record import Headers, Outgoing
from pipeline.ports import OutboxRow

_SQL = load("outbox")
_ROWS = UUID("9a1d0a52-0f0e-5c3b-8d52-4f1c2f6b7e11")  # fixed for ever: row ids derive from it
_LEADER = 0x6F7574626F78  # "outbox" in ASCII
_CHANNEL = "everpost_outbox"  # the trigger in 0002_outbox.sql notifies it


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


async def release(connection: Connection, ids: Sequence[str] | None = None) -> int:
    """Let parked rows (all of them, when none are named) wait again; gives how many."""
    with translated():
        status: str = await connection.execute(_SQL["release"], ids)
    return int(status.removeprefix("UPDATE "))


class PostgresOutbox:
    """The port `Outbox`, on one connection of the pool that it keeps while it leads."""

    def __init__(self, pool: asyncpg.Pool) -> None:
        self._pool = pool
        self._connection: PoolConnectionProxy | None = None
        self._leads = False
        self._wake = asyncio.Event()

    async def claim(self, limit: int) -> Sequence[OutboxRow]:
        """The oldest rows; none while another relay leads. Raises DependencyDown."""
        self._wake.clear()
        with translated():
            connection = await self._connected()
            self._leads = self._leads or await connection.fetchval(_SQL["lead"], _LEADER)
            rows = await connection.fetch(_SQL["claim"], limit) if self._leads else []
        return [_row(row) for row in rows]

    async def settle(self, ids: Sequence[str]) -> None:
        """Delete rows. Raises DependencyDown; they are then produced again, and the router drops them."""
        with translated():
            await self._leading().execute(_SQL["settle"], ids)

    async def set_aside(self, id: str, error: str) -> None:
        """Park a row with its reason. Raises DependencyDown."""
        with translated():
            await self._leading().execute(_SQL["set_aside"], id, error)

    async def wait(self, seconds: float) -> None:
        """Until the next commit of a row, or `seconds`."""
        try:
            await asyncio.wait_for(self._wake.wait(), seconds)
        except TimeoutError:
            return

    async def aclose(self) -> None:
        """End the connection, and so the lead; the pool opens another one when it needs it."""
        connection, self._connection, self._leads = self._connection, None, False
        if connection is not None:
            # Ended, not released: a release talks to the server, and warns of listeners on a broken line.
            with suppress(asyncpg.InterfaceError):  # it broke, and the pool has it back already
                connection.terminate()

    async def _connected(self) -> PoolConnectionProxy:
        if self._connection is not None and _lost(self._connection):
            await self.aclose()
        if self._connection is None:
            self._connection = await self._pool.acquire(timeout=CONNECT)
            await self._connection.add_listener(_CHANNEL, self._on_notify)
        return self._connection

    def _leading(self) -> PoolConnectionProxy:
        if self._connection is None or _lost(self._connection):
            raise DependencyDown("PostgreSQL: the connection that leads the outbox is lost")
        return self._connection

    def _on_notify(self, *_: object) -> None:
        self._wake.set()


def _lost(connection: PoolConnectionProxy) -> bool:
    try:
        return connection.is_closed()
    except asyncpg.InterfaceError:  # a pool takes a connection that broke back at once, and says so here
        return True


def _row(row: Mapping[str, Any]) -> OutboxRow:
    headers: Headers = tuple((name, text.encode()) for name, text in orjson.loads(row["headers"]).items())
    record = Outgoing(topic=row["topic"], key=row["key"].encode(), value=row["value"], headers=headers)
    return OutboxRow(id=row["id"], record=record)
