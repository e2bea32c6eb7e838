"""The notification log in PostgreSQL: decisions, deliveries with their state, attempts.

Everything of one `write` is one transaction, and every statement is idempotent, so records that are
read again, in any order and mixture, leave the same rows.
"""

from collections.abc import Iterable, Sequence
from datetime import datetime
from operator import attrgetter, itemgetter
from typing import Any
from uuid import UUID

import asyncpg
import orjson

from pipeline.adapters.postgres.pool import Connection, transaction
from pipeline.adapters.postgres.profiles import deactivate_addresses
from pipeline.adapters.postgres.statements import load
from pipeline.model.decision import Decision
from pipeline.model.engagement import Engagement
from pipeline.model.outcome import Outcome
from pipeline.model.standing import order, precedence
from pipeline.model.topics import RELEASED

_SQL = load("log")
_SOURCE = ("source_topic", "source_partition", "source_offset")
_DECISION = attrgetter(
    *_SOURCE, "event_id", "user_id", "tenant", "verdict", "reason", "type", "lane", "category",
    "profile_version", "template_version", "locale",
)  # fmt: skip
_OWNER = attrgetter("delivery_id", "event_id", "user_id", "tenant", "channel", "address_id", "state")
_STANDING = attrgetter(
    "at", *_SOURCE, "attempt", "outcome", "provider", "provider_id", "reason", "code", "not_before"
)
_ATTEMPT = attrgetter(
    "delivery_id", "attempt", *_SOURCE, "at", "outcome", "state", "provider", "provider_id", "reason", "code",
    "tier", "not_before", "latency_ms",
)  # fmt: skip


class PostgresLog:
    """The port `Log`."""

    def __init__(self, pool: asyncpg.Pool) -> None:
        self._pool = pool

    async def write(
        self,
        decisions: Sequence[Decision],
        outcomes: Sequence[Outcome],
        engagements: Sequence[Engagement] = (),
    ) -> None:
        """Write in one transaction, take addresses that a provider called dead out of use, and suppress those
        whose owner complained or told the provider to stop.

        Raises DependencyDown; then nothing is written.
        """
        async with transaction(self._pool) as connection:
            await _insert(connection, "decisions", map(_decision, decisions))
            await _insert(connection, "plans", _plans(decisions))
            await _insert(connection, "states", _states(outcomes))
            await _insert(connection, "attempts", map(_ATTEMPT, outcomes))
            news = await _news(connection, engagements)
            await deactivate_addresses(
                connection, _latest([*_dead_addresses(outcomes), *await _bounced(connection, news)])
            )
            await _insert(connection, "suppress", _unwanted(news))


async def _insert(connection: Connection, statement: str, rows: Iterable[Sequence[Any]]) -> None:
    columns = [[_clean(value) for value in column] for column in zip(*rows, strict=True)]
    if columns:
        await connection.execute(_SQL[statement], *columns)


def _decision(decision: Decision) -> Sequence[Any]:
    parts = (decision.gates, decision.channels, decision.deliveries, decision.counters)
    held = (decision.source_topic == RELEASED, *_place(decision.release_of))
    return (
        *_DECISION(decision),
        *held,
        decision.due_at,
        decision.collapse_key,
        *(orjson.dumps(part).decode() for part in parts),
        decision.decided_at,
    )


def _place(release_of: str) -> tuple[str | None, int | None, int | None]:
    """Topic, partition and offset of what was held."""
    if not release_of:
        return None, None, None
    topic, partition, offset = release_of.rsplit("/", 2)
    return topic, int(partition), int(offset)


def _plans(decisions: Sequence[Decision]) -> Iterable[Sequence[Any]]:
    """One row a delivery id, or a statement would meet its own row; the first in the log counts."""
    plans = {
        planned.delivery_id: (
            planned.delivery_id, d.event_id, d.user_id, d.tenant, planned.channel, planned.address_id,
            d.source_topic, d.source_partition, d.source_offset,
        )
        for d in sorted(decisions, key=attrgetter(*_SOURCE), reverse=True)
        for planned in d.deliveries
    }  # fmt: skip
    return plans.values()


def _states(outcomes: Sequence[Outcome]) -> Iterable[Sequence[Any]]:
    """One row a delivery: the outcome that counts."""
    latest = {outcome.delivery_id: outcome for outcome in sorted(outcomes, key=order)}
    return [(*_OWNER(o), precedence(o), *_STANDING(o)) for o in latest.values()]


def _dead_addresses(outcomes: Sequence[Outcome]) -> Sequence[tuple[str, str, datetime]]:
    return [
        (o.address_id, _clean(o.reason or o.code or o.outcome), o.at)
        for o in outcomes
        if o.outcome == "invalid_address" and _is_uuid(o.address_id)
    ]


def _latest(dead: Sequence[tuple[str, str, datetime]]) -> Sequence[tuple[str, str, datetime]]:
    """An address twice in one statement would be judged by either; the later word is the stronger one."""
    return list({one[0]: one for one in sorted(dead, key=itemgetter(2))}.values())


async def _news(connection: Connection, engagements: Sequence[Engagement]) -> Sequence[Engagement]:
    """Keep what came back; gives what was not known, for a fact that is told again has had its effect."""
    if not engagements:
        return ()
    columns = [
        [_clean(value) for value in column] for column in zip(*map(_engagement, engagements), strict=True)
    ]
    new = {row["engagement_id"] for row in await connection.fetch(_SQL["engagements"], *columns)}
    return [one for one in engagements if _clean(one.engagement_id) in new]


def _engagement(one: Engagement) -> Sequence[Any]:
    facts = orjson.dumps(dict(one.facts)).decode()
    return (one.engagement_id, one.delivery_id, one.kind, facts, one.verdict, one.reason, one.at)


async def _bounced(
    connection: Connection, engagements: Sequence[Engagement]
) -> Sequence[tuple[str, str, datetime]]:
    """The addresses that receipts call dead, as `_dead_addresses` gives those of outcomes."""
    dead = [one for one in engagements if one.kind == "bounce" and one.facts.get("fate") == "dead_address"]
    if not dead:
        return []
    rows = await connection.fetch(
        _SQL["bounced"],
        [_clean(one.delivery_id) for one in dead],
        [_clean(f"receipt {one.facts.get('code', '')}") for one in dead],
        [one.at for one in dead],
    )
    return [(row["address_id"], row["reason"], row["at"]) for row in rows if _is_uuid(row["address_id"])]


def _unwanted(engagements: Sequence[Engagement]) -> Iterable[Sequence[Any]]:
    """Deliveries whose address is not to be written to any more, and why."""
    return [
        (one.delivery_id, one.kind, one.at)
        for one in engagements
        # One that names a category is a link of ours, and the preference is set; the rest concerns the address.
        if one.kind == "complaint" or (one.kind == "unsubscribe" and "category" not in one.facts)
    ]


def _is_uuid(text: str) -> bool:
    try:
        UUID(text)
    except ValueError:
        return False
    return True


def _clean(value: Any) -> Any:
    """PostgreSQL stores no NUL, in JSON neither; a record that came past the door may hold one."""
    if isinstance(value, str) and ("\0" in value or "\\u0000" in value):
        return value.replace("\0", "\ufffd").replace("\\u0000", "\\ufffd")
    return value
