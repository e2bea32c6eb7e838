"""What operators have withdrawn: written once, and known to every stage within a second."""

import asyncio
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass

import asyncpg

from pipeline.adapters.postgres.pool import session
from pipeline.adapters.postgres.statements import load
from pipeline.model.errors import DependencyDown
from pipeline.model.recall import Recall, Recalls
from pipeline.observe import Log, Outage

_SQL = load("recalls")
_AGE = 1.0  # seconds that an answer is good for: a recall reaches every stage within it


@dataclass(frozen=True, slots=True, kw_only=True)
class Reach:
    """What a recall comes too late for, and what it still stops, as far as the log knows."""

    delivered: int  # deliveries
    open: int  # deliveries that are on their way or wait for another attempt
    held: int  # events that wait for their time
    known: bool  # whether there is any event, decided or in the outbox, that is meant


class PostgresRecalls:
    """The orders."""

    def __init__(self, pool: asyncpg.Pool) -> None:
        self._pool = pool

    async def add(self, recall: Recall, why: str) -> None:
        """Write an order with the operator's words; the same again changes nothing. Raises DependencyDown."""
        async with session(self._pool) as connection:
            await connection.execute(_SQL["add"], *asdict(recall).values(), why)

    async def all(self) -> Sequence[Recall]:
        """Every order in force: those of a year, for nothing waits longer. Raises DependencyDown."""
        async with session(self._pool) as connection:
            return [Recall(**row) for row in await connection.fetch(_SQL["all"])]

    async def reach(self, recall: Recall) -> Reach:
        """How far an order reaches, of what was decided until its time. Raises DependencyDown."""
        meant = (recall.event_id, recall.collapse_key, recall.type, recall.template_version)
        async with session(self._pool) as connection:
            return Reach(**await connection.fetchrow(_SQL["reach"], recall.tenant, recall.at, *meant))


class Fresh:
    """The orders in force, at most a second old while PostgreSQL answers; older ones stay while it does not.

    Nothing is missed then: an order that cannot be read here cannot be written either. A stage on
    asyncio runs `run` as a task; one without a loop of its own asks `refresh` before each batch.
    """

    def __init__(self, recalls: PostgresRecalls) -> None:
        self._recalls = recalls
        self._current = Recalls()
        self._asked = float("-inf")

    def __call__(self) -> Recalls:
        """The orders, without a question."""
        return self._current

    async def refresh(self) -> Recalls:
        """The orders, asked for again when the last answer is older than a second. Raises DependencyDown."""
        began = time.monotonic()
        if began - self._asked >= _AGE:
            self._current = Recalls(await self._recalls.all())
            self._asked = began
        return self._current

    async def run(self) -> None:
        """Keep the orders fresh, for ever."""
        outage = Outage(Log(__name__))
        while True:
            await asyncio.sleep(_AGE)
            try:
                await self.refresh()
            except DependencyDown as error:
                outage.down(error)
            else:
                outage.back()
