"""What operators want of breakers: written once, and known to every sender within a second."""

import asyncio
from collections.abc import Sequence
from dataclasses import astuple, dataclass
from datetime import datetime
from typing import Literal

import asyncpg

from pipeline.adapters.postgres.pool import session
from pipeline.adapters.postgres.statements import load
from pipeline.model.breaker import Order
from pipeline.model.errors import DependencyDown
from pipeline.model.event import Channel
from pipeline.observe import Log, Outage

_SQL = load("breakers")
_AGE = 1.0  # seconds between two questions


@dataclass(frozen=True, slots=True, kw_only=True)
class BreakerOrder:
    """One order. `auto` takes back what was ordered before."""

    channel: Channel
    provider: str
    wish: Literal["open", "close", "auto"]
    why: str
    at: datetime


async def add(pool: asyncpg.Pool, order: BreakerOrder) -> None:
    """Write an order; those before it stay as a record. Raises DependencyDown."""
    async with session(pool) as connection:
        await connection.execute(_SQL["add"], *astuple(order))


async def last(pool: asyncpg.Pool) -> Sequence[BreakerOrder]:
    """The last order for each provider of a channel. Raises DependencyDown."""
    async with session(pool) as connection:
        return [BreakerOrder(**row) for row in await connection.fetch(_SQL["all"])]


class Wish:
    """What holds for one provider of a channel; it stays as it was while PostgreSQL does not answer."""

    def __init__(self, pool: asyncpg.Pool, channel: Channel, provider: str) -> None:
        self._pool = pool
        self._of = (channel, provider)
        self._current: Order | None = None

    def __call__(self) -> Order | None:
        """The order in force, without a question."""
        return self._current

    async def refresh(self) -> None:
        """Ask. Raises DependencyDown."""
        current: Order | None = None
        for one in await last(self._pool):
            if (one.channel, one.provider) == self._of and one.wish != "auto":
                current = one.wish
        self._current = current

    async def run(self) -> None:
        """Ask once a second, for ever."""
        outage = Outage(Log(__name__))
        while True:
            await asyncio.sleep(_AGE)
            try:
                await self.refresh()
            except DependencyDown as error:
                outage.down(error)
            else:
                outage.back()
