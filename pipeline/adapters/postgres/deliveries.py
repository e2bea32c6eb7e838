"""Reads deliveries in bulk with their addresses, for those who compare the log with what arrived."""

from collections.abc import AsyncIterator
from dataclasses import dataclass

import asyncpg

from pipeline.adapters.postgres.pool import session
from pipeline.adapters.postgres.statements import load
from pipeline.model.event import Channel
from pipeline.model.standing import Standing

_SQL = load("deliveries")
_PAGE = 5_000  # rows a query


@dataclass(frozen=True, slots=True, kw_only=True)
class DeliveryRow:
    """A delivery as the notification log knows it."""

    delivery_id: str
    event_id: str
    user_id: str
    channel: Channel
    address: str | None  # personal data; None when the address was erased
    state: Standing
    uncertain: bool  # one of its attempts ended without an answer


async def all_deliveries(pool: asyncpg.Pool, tenant: str) -> AsyncIterator[DeliveryRow]:
    """Every delivery of a tenant, in the order of their ids. Raises DependencyDown."""
    last = ""
    while True:
        async with session(pool) as connection:
            rows = await connection.fetch(_SQL["page"], tenant, last, _PAGE)
        for row in rows:
            yield DeliveryRow(**row)
        if len(rows) < _PAGE:
            return
        last = rows[-1]["delivery_id"]
