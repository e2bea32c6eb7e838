"""Answers "why": the timelines of an event id, or the latest ones of a user."""

from collections.abc import Mapping, Sequence
from typing import Any, TypeVar

import asyncpg
import orjson

from pipeline.adapters.postgres.pool import Connection, session
from pipeline.adapters.postgres.statements import load
from pipeline.model.decision import ChannelVerdict, Decision, Gate, Planned
from pipeline.model.recall import Recall
from pipeline.model.timeline import Attempt, Course, Timeline, Told, Waiting, Why, chains
from pipeline.ports import UserKey

_SQL = load("why")
T = TypeVar("T", Attempt, Told)


async def why_event(pool: asyncpg.Pool, event_id: str, *, limit: int = 20) -> Why:
    """Every record with this event id, newest first, of whichever user. Raises DependencyDown."""
    return await _why(pool, "event", (event_id,), limit)


async def why_user(pool: asyncpg.Pool, user: UserKey, *, limit: int = 20) -> Why:
    """The latest events of a user (tenant, user_id), newest first. Raises DependencyDown."""
    return await _why(pool, "user", user, limit)


async def _why(pool: asyncpg.Pool, of: str, key: Sequence[str], limit: int) -> Why:
    if any("\0" in part for part in key):  # PostgreSQL stores no NUL
        return Why()
    async with session(pool) as c, c.transaction(isolation="repeatable_read", readonly=True):
        waiting = await c.fetch(_SQL[f"waiting_{of}"], *key, limit)
        decisions = [_decision(row) for row in await c.fetch(_SQL[f"decisions_of_{of}"], *key, limit)]
        told = chains(decisions)
        orders = await _orders(c, [d for d, _ in told if d.verdict == "held"])
        courses = await _courses(c, [p.delivery_id for d in decisions for p in d.deliveries])
    return Why(
        waiting=tuple(Waiting(**row) for row in waiting),
        timelines=tuple(
            Timeline(
                decision=d,
                earlier=earlier,
                order=orders.get(d.place),
                courses=tuple(courses[p.delivery_id] for p in d.deliveries if p.delivery_id in courses),
            )
            for d, earlier in told
        ),
    )


async def _orders(connection: Connection, held: Sequence[Decision]) -> Mapping[str, Recall]:
    """By the place of a held event the order that withdraws it, of several the first."""
    places = zip(*((d.source_topic, d.source_partition, d.source_offset) for d in held), strict=True)
    found: dict[str, Recall] = {}
    for row in await connection.fetch(_SQL["orders"], *places) if held else ():
        values = dict(row)
        found.setdefault(values.pop("place"), Recall(**values))
    return found


async def _courses(connection: Connection, ids: Sequence[str]) -> Mapping[str, Course]:
    attempts = await _by_delivery(connection, "attempts", ids, Attempt)
    told = await _by_delivery(connection, "told", ids, Told)
    return {
        row["delivery_id"]: Course(
            **row,
            attempts=tuple(attempts.get(row["delivery_id"], ())),
            told=tuple(told.get(row["delivery_id"], ())),
        )
        for row in await connection.fetch(_SQL["courses"], ids)
    }


async def _by_delivery(
    connection: Connection, query: str, ids: Sequence[str], cls: type[T]
) -> Mapping[str, Sequence[T]]:
    found: dict[str, list[T]] = {}
    for row in await connection.fetch(_SQL[query], ids):
        values = dict(row)
        found.setdefault(values.pop("delivery_id"), []).append(cls(**values))
    return found


def _decision(row: Mapping[str, Any]) -> Decision:
    values = dict(row)
    for name, cls in (("gates", Gate), ("channels", ChannelVerdict), ("deliveries", Planned)):
        values[name] = tuple(cls(**part) for part in orjson.loads(values[name]))
    values["counters"] = orjson.loads(values["counters"])
    del values["released"]
    held = [values.pop(name) for name in ("held_topic", "held_partition", "held_offset")]
    values["release_of"] = "" if held[0] is None else "/".join(map(str, held))
    return Decision(**values)
