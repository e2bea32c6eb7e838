"""What PostgreSQL says for the ledger, at one moment (one repeatable-read snapshot)."""

from collections.abc import Mapping, Sequence

import asyncpg

from pipeline.adapters.postgres.pool import session
from pipeline.adapters.postgres.statements import load
from pipeline.model.ledger import (
    Books,
    Decided,
    Delivered,
    Hole,
    MissingDelivery,
    Parked,
    Place,
    Position,
    Withdrawn,
)

_SQL = load("ledger")
_NAMED = 1000  # how many missing things or duplicates are listed; more would bury the reader


async def books(pool: asyncpg.Pool) -> Books:
    """The books; close them with `pipeline.model.ledger.balance`. Raises DependencyDown.

    Ask Kafka for the end offsets before, not after: what comes between is then simply in flight.
    """
    async with session(pool) as c, c.transaction(isolation="repeatable_read", readonly=True):
        reach = await c.fetch(_SQL["reach"])
        return Books(
            waiting=await c.fetchval(_SQL["waiting"]),
            parked=tuple(Parked(**row) for row in await c.fetch(_SQL["parked"])),
            # A release is no new event.
            heads={(topic, n): head for topic, n, released, _, head in reach if not released},
            firsts={(topic, n): first for topic, n, _, first, _ in reach},
            decided=tuple(Decided(**row) for row in await c.fetch(_SQL["decided"])),
            open=await c.fetchval(_SQL["open"]),
            incomplete=await c.fetchval(_SQL["incomplete"]),
            delivered=tuple(Delivered(**row) for row in await c.fetch(_SQL["delivered"])),
            withdrawn=tuple(Withdrawn(**row) for row in await c.fetch(_SQL["withdrawn"])),
            driven=await c.fetchval(_SQL["driven"]),
            holes=tuple(Hole(**row) for row in await c.fetch(_SQL["holes"], _NAMED)),
            missing_deliveries=tuple(
                MissingDelivery(**row) for row in await c.fetch(_SQL["missing_deliveries"], _NAMED)
            ),
            unplanned=await c.fetchval(_SQL["unplanned"]),
            repeats=await c.fetchval(_SQL["repeats"]),
            duplicates=tuple(Place(**row) for row in await c.fetch(_SQL["duplicates"], _NAMED)),
        )


async def heads(pool: asyncpg.Pool, places: Sequence[Position]) -> Mapping[Position, int]:
    """The next offset to decide of each partition that has a decision. Raises DependencyDown."""
    async with session(pool) as connection:
        rows = await connection.fetch(
            _SQL["heads"], [place[0] for place in places], [place[1] for place in places]
        )
    return {(topic, partition): head for topic, partition, head in rows}
