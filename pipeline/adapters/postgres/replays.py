"""Runs over dead letters in PostgreSQL: their audit record, and the claims by which no letter is sent twice."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import asyncpg
import orjson
from pydantic import TypeAdapter

from pipeline.adapters.postgres.pool import session, transaction
from pipeline.adapters.postgres.statements import load
from pipeline.adapters.postgres.tiers import LOCK
from pipeline.model.errors import ConfigurationError
from pipeline.model.replay import MOVES, Answers, Claim, Pace, Range, Run, Selection, Standing, Status, Terms

_SQL = load("replays")
_PARTS: Mapping[str, TypeAdapter[Any]] = {
    "ranges": TypeAdapter(tuple[Range, ...]),
    "selection": TypeAdapter(Selection),
    "pace": TypeAdapter(Pace),
    "terms": TypeAdapter(Terms),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Action:
    """One line of a run's record."""

    at: datetime
    who: str
    status: Status
    why: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """A run with the counts that it saved last."""

    run: Run
    counts: Mapping[str, int]


class PostgresReplays:
    """The port `Books` of the replay stage, and what the command line needs beside it."""

    def __init__(self, pool: asyncpg.Pool) -> None:
        self._pool = pool

    async def add(self, run: Run) -> None:
        """Write a new run down. Raises DependencyDown."""
        parts = [adapter.dump_json(getattr(run, name)).decode() for name, adapter in _PARTS.items()]
        async with session(self._pool) as connection:
            await connection.execute(_SQL["add"], run.run_id, run.kind, run.who, run.why, run.at, *parts)

    async def get(self, run_id: str) -> Entry:
        """One run. Raises ConfigurationError when there is none, DependencyDown."""
        async with session(self._pool) as connection:
            row = await connection.fetchrow(_SQL["get"], run_id)
        if row is None:
            raise ConfigurationError(f"there is no run {run_id}: everpost dead runs lists them")
        return _entry(row)

    async def latest(self, limit: int) -> Sequence[Entry]:
        """The latest runs, the last one first. Raises DependencyDown."""
        async with session(self._pool) as connection:
            return [_entry(row) for row in await connection.fetch(_SQL["latest"], limit)]

    async def actions(self, run_id: str) -> Sequence[Action]:
        """What was done to a run, in order. Raises DependencyDown."""
        async with session(self._pool) as connection:
            return [Action(**row) for row in await connection.fetch(_SQL["actions"], run_id)]

    async def results(self, run_id: str) -> Mapping[str, int]:
        """What has become of the letters that it sent, by state of their deliveries. Raises DependencyDown."""
        async with session(self._pool) as connection:
            rows = await connection.fetch(_SQL["results"], run_id)
        return {row["state"] or "waiting": row["letters"] for row in rows}

    async def move(
        self, run_id: str, status: Status, *, at: datetime, who: str, why: str, in_retry: bool = False
    ) -> bool:
        """Another status; False when the present one does not allow it. Raises DependencyDown.

        `in_retry`: of a run over the retry tiers. Afterwards the retry stage knows of it.
        """
        allowed = [before for before, after in MOVES.items() if status in after]
        async with transaction(self._pool) as connection:
            moved = await connection.fetchval(_SQL["move"], run_id, status, allowed, at, who, why)
            if in_retry:
                await connection.execute(_SQL["exclude"], LOCK)
        return moved is not None

    async def save(self, run_id: str, counts: Mapping[str, int]) -> Status:
        """Save the counts and tell the status, which is where an operator's wish stands. Raises DependencyDown."""
        async with session(self._pool) as connection:
            return await connection.fetchval(_SQL["save"], run_id, orjson.dumps(counts).decode())

    async def standing(self, asked: Sequence[Claim], run_id: str) -> Mapping[int, Standing]:
        """What is remarkable of these letters, by their index. Raises DependencyDown."""
        keys, attempts = _columns([one[:2] for one in asked])
        async with session(self._pool) as connection:
            log = await connection.fetch(_SQL["deliveries"], keys, attempts)
            claims = await connection.fetch(_SQL["claims"], keys)
        if not log and not claims:
            return {}
        return _standing(asked, run_id, log, claims)

    async def claim(self, run_id: str, claims: Sequence[Claim]) -> frozenset[int]:
        """Take these letters; the indices of those that are another's. Taking them again changes nothing.

        Raises DependencyDown. A run that is no longer wanted gets none.
        """
        async with session(self._pool) as connection:
            columns = _columns(claims)
            done: str = await connection.execute(_SQL["claim"], run_id, *columns)
            if done == f"INSERT 0 {len(claims)}":
                return frozenset()
            rows = await connection.fetch(_SQL["claims"], columns[0])
        mine = {
            Claim(row["key"], row["attempt"], row["range"], row["offset"])
            for row in rows
            if row["run_id"] == run_id
        }
        return frozenset(n for n, claim in enumerate(claims) if claim not in mine)

    async def release(self, run_id: str, offsets: Mapping[int, int]) -> None:
        """Give back what was taken and not sent: of each range from this offset on. Raises DependencyDown."""
        async with session(self._pool) as connection:
            await connection.execute(_SQL["release"], run_id, list(offsets), list(offsets.values()))

    async def taken(self, run_id: str, offsets: Mapping[int, int]) -> Sequence[tuple[int, int]]:
        """What was taken of each range from this offset on, as (range, offset). Raises DependencyDown."""
        async with session(self._pool) as connection:
            rows = await connection.fetch(_SQL["taken"], run_id, list(offsets), list(offsets.values()))
        return [(row["range"], row["offset"]) for row in rows]

    async def answers(self, sent: Sequence[tuple[str, int]]) -> Answers:
        """What became of these (delivery id, attempt). Raises DependencyDown."""
        async with session(self._pool) as connection:
            row = await connection.fetchrow(
                _SQL["answers"], [one[0] for one in sent], [one[1] for one in sent]
            )
        return Answers(sent=len(sent), answered=row["answered"], failed=row["failed"])


def _columns(claims: Sequence[tuple[str, *tuple[int, ...]]]) -> Sequence[str]:
    """Each column as one text: asyncpg takes 0.3 µs to look at each element of an array, PostgreSQL next to none.

    A key is printable, so none holds the separator.
    """
    keys, *numbers = zip(*claims, strict=True)
    return ("\x1f".join(keys), *(" ".join(map(str, column)) for column in numbers))


def _entry(row: Mapping[str, Any]) -> Entry:
    parts = {name: adapter.validate_json(row[name]) for name, adapter in _PARTS.items()}
    plain = {name: row[name] for name in ("run_id", "kind", "who", "why", "at", "status")}
    return Entry(run=Run(**plain, **parts), counts=orjson.loads(row["counts"]))


def _standing(
    asked: Sequence[Claim], run_id: str, log: Sequence[Any], claims: Sequence[Any]
) -> Mapping[int, Standing]:
    by_key: dict[str, list[Any]] = {}
    for row in claims:
        by_key.setdefault(row["key"], []).append(row)
    known = {row["n"]: row for row in log}
    found: dict[int, Standing] = {}
    for n, claim in enumerate(asked):
        rows, seen = by_key.get(claim.key, ()), known.get(n)
        if not rows and seen is None:
            continue
        this = next((row for row in rows if row["attempt"] == claim.attempt), None)
        mine = this is not None and (this["run_id"], this["range"], this["offset"]) == (run_id, *claim[2:])
        found[n] = Standing(
            delivered=seen is not None and seen["delivered"],
            attempt=0 if seen is None else seen["attempt"],
            claimed_by="" if this is None else this["run_id"],
            mine=mine,
            discarded=this is not None and this["discarded"],
            replays=sum(row["attempt"] < claim.attempt and not row["discarded"] for row in rows),
        )
    return found
