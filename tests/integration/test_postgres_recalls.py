"""Recalls on a real PostgreSQL, and the command that writes them."""

import asyncio
import json
import os
import sys
from datetime import UTC, datetime, timedelta
from typing import Any

import asyncpg
import pytest

from pipeline.adapters.postgres.log import PostgresLog
from pipeline.adapters.postgres.pool import close, connect, session, transaction
from pipeline.adapters.postgres.recalls import Fresh, PostgresRecalls, Reach
from pipeline.model.decision import Planned
from pipeline.model.errors import DependencyDown
from pipeline.model.recall import Recall
from pipeline.sdk import outbox
from tests.support.database import migrated
from tests.support.eventually import eventually
from tests.support.log import decision, outcome
from tests.support.make import CATALOGUE, event

pytestmark = pytest.mark.integration
NOW = datetime.now(UTC)  # noqa: TID251 - orders are in force for a year, by the server's clock
BEFORE = NOW - timedelta(hours=1)


def order(recall_id: str = "r-1", **changes: Any) -> Recall:
    """An order, with changes."""
    values: dict[str, Any] = {"recall_id": recall_id, "tenant": "acme", "at": NOW, **changes}
    if not changes.keys() & {"event_id", "collapse_key", "type"}:
        values["event_id"] = "e-1"
    return Recall(**values)


async def test_an_order_is_read_as_it_was_written(postgres: str) -> None:
    """Of each kind, once however often it is written, for a year."""
    orders = [
        order("r-1"),
        order("r-2", collapse_key="gate"),
        order("r-3", type="offer.weekend"),
        order("r-4", type="offer.weekend", template_version=3),
    ]
    async with migrated(postgres) as pool:
        recalls = PostgresRecalls(pool)
        for one in (*orders, orders[0], order("r-5", at=NOW - timedelta(days=400))):
            await recalls.add(one, "wrong price")
        found = await recalls.all()
        async with session(pool) as connection:
            words = await connection.fetchval("select why from everpost.recall where recall_id = 'r-5'")
    assert sorted(found, key=lambda one: one.recall_id) == orders
    assert words == "wrong price"


async def test_an_order_that_means_everything_is_refused(postgres: str) -> None:
    """The table holds none without exactly one of the three, nor without words."""
    async with migrated(postgres) as pool:
        recalls = PostgresRecalls(pool)
        for wrong, why in ((order(event_id=None), "x"), (order(event_id="e", type="t"), "x"), (order(), "")):
            with pytest.raises(asyncpg.CheckViolationError):
                await recalls.add(wrong, why)


async def test_fresh_orders_are_a_second_old_at_most_and_outlive_an_outage(postgres: str) -> None:
    """One query a second, however often it is asked; what was known stays while PostgreSQL is away."""
    async with migrated(postgres) as pool:
        fresh = Fresh(PostgresRecalls(pool))
        assert not fresh()
        await PostgresRecalls(pool).add(order(), "x")
        assert await fresh.refresh()
        await PostgresRecalls(pool).add(order("r-2", collapse_key="gate"), "x")
        match: dict[str, Any] = {
            "tenant": "acme",
            "event_id": "",
            "type": "",
            "template_version": None,
            "created_at": NOW,
        }
        assert (await fresh.refresh()).match(collapse_key="gate", **match) is None  # asked just now
        task = asyncio.create_task(fresh.run())

        async def known() -> bool:
            return fresh().match(collapse_key="gate", **match) is not None

        await eventually(known)
        task.cancel()
    other = await connect(postgres)
    away = Fresh(PostgresRecalls(other))
    known_before = await away.refresh()
    await close(other)
    away._asked = float("-inf")  # pyright: ignore[reportPrivateUsage] - as if a second had passed
    with pytest.raises(DependencyDown):
        await away.refresh()
    assert away() is known_before
    assert known_before


async def log(pool: asyncpg.Pool) -> None:
    """One delivered, one waiting for its next attempt, one held, one of another type, one of other words."""
    decisions = [
        decision(
            f"e-{n}",
            type=type,
            template_version=version,
            source_offset=n,
            decided_at=BEFORE,
            collapse_key="gate" if n == 0 else None,
            deliveries=(Planned(delivery_id=f"d-{n}", channel="sms", address_id="a"),),
        )
        for n, (type, version) in enumerate(
            [("offer.weekend", 3), ("offer.weekend", 3), ("code", 3), ("offer.weekend", 2)]
        )
    ]
    held = decision(
        "e-9", type="offer.weekend", verdict="held", reason="due", source_offset=9, decided_at=BEFORE
    )
    later = decision(
        "e-10",
        type="offer.weekend",
        verdict="held",
        reason="due",
        source_offset=10,
        decided_at=NOW + timedelta(hours=1),
    )
    outcomes = [
        outcome("d-0", event_id="e-0"),
        outcome("d-1", event_id="e-1", outcome="transient", state="in_flight"),
        outcome("d-3", event_id="e-3"),
    ]
    await PostgresLog(pool).write([*decisions, held, later], outcomes)


@pytest.mark.parametrize(
    ("given", "reach"),
    [
        ({"event_id": "e-0"}, Reach(delivered=1, open=0, held=0, known=True)),
        ({"event_id": "e-1"}, Reach(delivered=0, open=1, held=0, known=True)),
        ({"event_id": "e-9"}, Reach(delivered=0, open=0, held=1, known=True)),
        ({"type": "offer.weekend"}, Reach(delivered=2, open=1, held=1, known=True)),
        ({"type": "offer.weekend", "template_version": 3}, Reach(delivered=1, open=1, held=1, known=True)),
        ({"type": "code"}, Reach(delivered=0, open=1, held=0, known=True)),
        ({"tenant": "other", "type": "offer.weekend"}, Reach(delivered=0, open=0, held=0, known=False)),
        ({"collapse_key": "gate"}, Reach(delivered=1, open=0, held=0, known=True)),
    ],
)
async def test_an_order_says_how_far_it_reaches(postgres: str, given: dict[str, Any], reach: Reach) -> None:
    """What was delivered is too late; what is on its way or held is stopped."""
    async with migrated(postgres) as pool:
        await log(pool)
        assert await PostgresRecalls(pool).reach(order(**given)) == reach


async def command(dsn: str, *arguments: str) -> tuple[int, str]:
    """Run `everpost recall`; its exit code and what it printed."""
    child = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "pipeline.cli.main", "recall", *arguments,
        env={**os.environ, "EVERPOST_POSTGRES_DSN": dsn},
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
    )  # fmt: skip
    printed, _ = await asyncio.wait_for(child.communicate(), 60)
    return child.returncode or 0, printed.decode()


async def test_the_command_writes_the_order_and_tells_how_far_it_reaches(postgres: str) -> None:
    """For people and for programs; what it cannot mean is refused with what to write."""
    async with migrated(postgres) as pool:
        await log(pool)
        target = ("--type", "offer.weekend", "--template", "3", "--tenant", "acme", "--why", "wrong price")
        code, text = await command(postgres, *target, "--json")
        found = json.loads(text.splitlines()[-1])
        assert (code, found["reach"]) == (0, {"delivered": 1, "open": 1, "held": 1, "known": True})
        code, text = await command(postgres, *target)
        assert "1 deliveries had been made already; 1 on their way and 1 held events are stopped" in text
        (first, _) = sorted(await PostgresRecalls(pool).all(), key=lambda one: one.at)
        code, text = await command(postgres, "--event", "e-77", "--tenant", "acme", "--why", "x")
        assert (code, "No event 'e-77' of tenant 'acme' is known so far" in text) == (0, True)
        async with transaction(pool) as connection:
            await outbox.enqueue(connection, event("e-77"), catalogue=CATALOGUE)
        code, text = await command(postgres, "--event", "e-77", "--tenant", "acme", "--why", "x")
        assert (code, "No event" in text) == (0, False)
    assert (first.recall_id, first.type, first.template_version) == (found["recall_id"], "offer.weekend", 3)
    for wrong in (
        ("--why", "x"),
        ("--event", "e", "--type", "t", "--why", "x"),
        ("--event", "e", "--template", "3", "--why", "x"),
        ("--event", "e", "--why", " "),
        ("--event", "", "--why", "x"),
        ("--type", "no.such.type", "--why", "x"),
    ):
        code, text = await command(postgres, *wrong)
        assert code == 78, text
