"""Connections to PostgreSQL, with a limit on everything that could wait."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

import asyncpg
from asyncpg.pool import PoolConnectionProxy

from pipeline.adapters.postgres.errors import translated

Connection = asyncpg.Connection | PoolConnectionProxy

CONNECT = 10.0  # seconds, for a new connection and for a free one of the pool
COMMAND = 30.0  # seconds that the client waits; the server gives up first, so nothing runs on unseen
_SERVER = {
    "application_name": "everpost",
    "statement_timeout": "25s",
    "lock_timeout": "10s",
    "idle_in_transaction_session_timeout": "60s",
    "jit": "off",  # compiling costs more than these short statements take
    "timezone": "UTC",
    # A host that vanished keeps its locks until the server notices: 25 s, not Linux's two hours.
    "tcp_keepalives_idle": "10",
    "tcp_keepalives_interval": "5",
    "tcp_keepalives_count": "3",
}


async def connect(dsn: str, *, size: int = 10, stateless: bool = False) -> asyncpg.Pool:
    """A pool of at most `size` connections; the first is opened at once, so a wrong DSN shows here.

    `stateless`: who uses it leaves nothing in a session (locks, listeners, settings), so that there is nothing
    to be cleaned when a connection is given back, which is a question to the server each time.
    Raises DependencyDown when nothing answers, ConfigurationError when it refuses us.
    """
    with translated():
        return await asyncpg.create_pool(
            dsn,
            min_size=1,
            max_size=size,
            timeout=CONNECT,
            command_timeout=COMMAND,
            server_settings=_SERVER,
            reset=_nothing if stateless else None,
        )


async def _nothing(_connection: object) -> None:
    """Nothing is to be cleaned."""


async def close(pool: asyncpg.Pool) -> None:
    """Close, waiting at most CONNECT seconds for connections in use; asyncpg's own close waits for ever."""
    try:
        async with asyncio.timeout(CONNECT):
            await pool.close()
    except TimeoutError:
        pool.terminate()


@asynccontextmanager
async def session(pool: asyncpg.Pool) -> AsyncGenerator[PoolConnectionProxy]:
    """A connection of the pool; whatever asyncpg raises inside comes out translated."""
    with translated():
        async with pool.acquire(timeout=CONNECT) as connection:
            yield connection


@asynccontextmanager
async def transaction(pool: asyncpg.Pool) -> AsyncGenerator[PoolConnectionProxy]:
    """A connection within a transaction: committed at the end, rolled back by any error."""
    async with session(pool) as connection, connection.transaction():
        yield connection
