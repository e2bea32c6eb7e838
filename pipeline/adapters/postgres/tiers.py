"""Between the retry stage and an operator's runs over its tiers: each waiting delivery leaves by one of them.

Both take it by a row before they write it, and the first has it. A run that begins waits for the round of
the retry stage that is under way: the lock is held from the look at the runs until the offsets are
committed, so a run sees by them what has left before.
"""

from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any

import asyncpg

from pipeline.adapters.postgres.pool import Connection, session
from pipeline.adapters.postgres.statements import load
from pipeline.model.ladder import TIERS
from pipeline.model.replay import Waiting
from pipeline.model.topics import retry

LOCK = 0x7265747279  # "retry" in ASCII
_SQL = load("tiers")
_TOPICS = [retry(tier.name) for tier in TIERS]


class PostgresTiers:
    """The port `Orders` of the retry stage."""

    def __init__(self, pool: asyncpg.Pool) -> None:
        self._pool = pool

    @asynccontextmanager
    async def leaving(self, records: Sequence[Waiting]) -> AsyncGenerator[frozenset[int]]:
        """The indices of those that a run has taken; the others are ours to write. Raises DependencyDown."""
        async with session(self._pool) as connection:
            await connection.execute(_SQL["enter"], LOCK)
            try:
                yield await _taken(connection, records)
            finally:
                await connection.execute(_SQL["leave"], LOCK)


async def _taken(connection: Connection, records: Sequence[Waiting]) -> frozenset[int]:
    parts = await connection.fetch(_SQL["runs"], _TOPICS)
    about = {n: found for n, record in enumerate(records) if (found := _about(parts, record))}
    if not about:
        return frozenset()
    ours = [records[n] for n, found in about.items() if not all(found.values())]
    if ours:
        columns = zip(*((one.key, one.attempt, one.offset) for one in ours), strict=True)
        await connection.execute(_SQL["claim"], *map(list, columns))
    keys = [records[n].key for n in about]
    takers = {
        (row["key"], row["attempt"]): row["run"] for row in await connection.fetch(_SQL["takers"], keys)
    }
    # A claim of another run is about another copy: this one is ours.
    return frozenset(n for n, found in about.items() if takers.get(records[n][:2]) in found)


def _about(parts: Sequence[Mapping[str, Any]], record: Waiting) -> dict[int, bool]:
    """The runs in whose ranges it lies, and whether each has ended."""
    return {
        part["run"]: part["ended"]
        for part in parts
        if (part["topic"], part["partition"]) == (record.topic, record.partition)
        and part["first"] <= record.offset < part["end"]
    }
