"""Events that are held, on the books and in the story, on a real PostgreSQL."""

import random
from collections import Counter
from collections.abc import Sequence
from datetime import timedelta
from typing import Any

import pytest

from pipeline.adapters.postgres.ledger import books
from pipeline.adapters.postgres.log import PostgresLog
from pipeline.adapters.postgres.pool import session
from pipeline.adapters.postgres.recalls import PostgresRecalls
from pipeline.adapters.postgres.why import why_event
from pipeline.model.decision import Decision, Planned, Verdict
from pipeline.model.ledger import Ledger, Withdrawn, balance
from pipeline.model.recall import Recall
from pipeline.model.topics import RELEASED
from tests.support.database import migrated
from tests.support.log import decision, outcome
from tests.support.make import NOW

pytestmark = pytest.mark.integration
EVENTS = "notification.events.normal"
HELD = decision(verdict="held", reason="due", due_at=NOW + timedelta(days=31))


def released(of: Decision, offset: int, **changes: Any) -> Decision:
    """The decision of a release."""
    place = f"{of.source_topic}/{of.source_partition}/{of.source_offset}"
    values: dict[str, Any] = {"source_topic": RELEASED, "source_offset": offset, "release_of": place}
    return decision(of.event_id, **{**values, **changes})


AGAIN = released(HELD, 0, verdict="held", reason="quiet_hours", decided_at=NOW + timedelta(days=31))
REPEAT = released(HELD, 1, verdict="duplicate", reason="duplicate", decided_at=NOW + timedelta(days=31))
PLANNED = (Planned(delivery_id="d-1", channel="sms", address_id="a-1"),)
LAST = released(AGAIN, 2, deliveries=PLANNED, decided_at=NOW + timedelta(days=32))


async def close(dsn: str, decisions: Sequence[Decision], *, delivered: bool = False) -> Ledger:
    """The balance of one accepted event, account by account."""
    async with migrated(dsn) as pool:
        await PostgresLog(pool).write(decisions, [outcome("d-1")] if delivered else [])
        return balance(await books(pool), {(EVENTS, 0): 1})


@pytest.mark.parametrize(
    ("known", "delivered", "standing"),
    [
        ([HELD], False, "held"),
        ([HELD, AGAIN], False, "held"),
        ([HELD, AGAIN, REPEAT], False, "held"),
        ([HELD, AGAIN, REPEAT, LAST], False, "open"),
        ([HELD, AGAIN, REPEAT, LAST], True, "final"),
        ([HELD, released(HELD, 0, verdict="recalled", reason="recalled")], False, "final"),
        ([HELD, released(HELD, 0, verdict="duplicate", reason="duplicate")], False, "final"),
    ],
)
async def test_a_held_event_is_in_flight_until_its_release_is_decided(
    postgres: str, known: Sequence[Decision], delivered: bool, standing: str
) -> None:
    """One event is accepted and ends once, however often it is held, released and released again."""
    ledger = await close(postgres, known, delivered=delivered)
    assert ledger.balanced, ledger.missing
    assert (ledger.accepted, ledger.held) == (1, int(standing == "held"))
    assert (ledger.final, ledger.in_flight) == ((1, 0) if standing == "final" else (0, 1))
    ended_as_duplicate = standing == "final" and known[-1].verdict == "duplicate"
    assert ledger.duplicates == len(ledger.duplicate_of) == int(ended_as_duplicate)


async def test_a_release_that_was_passed_over_is_named(postgres: str) -> None:
    """Its event would be held for ever."""
    ledger = await close(postgres, [HELD, released(HELD, 3, verdict="expired", reason="expired")])
    assert ledger.missing == (f"event {RELEASED}[0] offsets 0 to 2: no decision",)


async def test_what_nobody_can_read_among_the_releases_is_no_event(postgres: str) -> None:
    """It was never accepted, so it does not count."""
    junk = decision("", user_id="", tenant="", verdict="rejected", reason="unreadable", source_topic=RELEASED)
    ledger = await close(postgres, [HELD, junk])
    assert (ledger.balanced, ledger.accepted, ledger.held, ledger.rejected) == (True, 1, 1, {})


async def test_why_tells_a_hold_and_its_release_as_one_story(postgres: str) -> None:
    """Held, held again, delivered: the decisions as they were made, and what came of the last."""
    async with migrated(postgres) as pool:
        await PostgresLog(pool).write([HELD, AGAIN, REPEAT, LAST], [outcome("d-1")])
        (story,) = (await why_event(pool, "e-1")).timelines
    assert (story.earlier, story.decision) == ((HELD, AGAIN), LAST)
    assert [course.state for course in story.courses] == ["delivered"]


async def test_a_hold_that_was_recalled_is_named_with_its_order(postgres: str) -> None:
    """The books and the story say at once which order ends it, the first of two; earlier and other ones say nothing."""
    orders = [
        Recall(recall_id="r-early", tenant="acme", at=NOW - timedelta(seconds=1), event_id="e-1"),
        Recall(recall_id="r-other", tenant="other", at=NOW + timedelta(hours=1), event_id="e-1"),
        Recall(recall_id="r-words", tenant="acme", at=NOW, type="flight.cancelled", template_version=3),
        Recall(recall_id="r-1", tenant="acme", at=NOW + timedelta(hours=1), collapse_key="gate"),
        Recall(recall_id="r-2", tenant="acme", at=NOW + timedelta(hours=2), event_id="e-1"),
    ]
    async with migrated(postgres) as pool:
        log, recalls = PostgresLog(pool), PostgresRecalls(pool)
        held = decision(verdict="held", reason="due", collapse_key="gate")
        await log.write([held, decision("e-2", verdict="held", reason="due", source_offset=1)], [])
        for order in orders[:3]:
            await recalls.add(order, "x")
        assert (await books(pool)).withdrawn == ()
        assert (await why_event(pool, "e-1")).timelines[0].order == orders[2]
        for order in orders[3:]:
            await recalls.add(order, "x")
        assert (await books(pool)).withdrawn == (Withdrawn(recall_id="r-1", at=orders[3].at, events=1),)
        assert (await why_event(pool, "e-1")).timelines[0].order == orders[3]
        assert (await why_event(pool, "e-2")).timelines[0].order == orders[2]
        await log.write([released(held, 0, verdict="recalled", reason="recalled")], [])
        assert (await books(pool)).withdrawn == ()
        assert (await why_event(pool, "e-1")).timelines[0].order is None


ENDS: Sequence[Verdict] = ("deliver", "suppressed", "rejected", "expired", "recalled", "duplicate")


@pytest.mark.parametrize("seed", range(5))
async def test_the_balance_is_that_of_a_plain_count(postgres: str, seed: int) -> None:
    """Any number of events held and released any number of times, written in any order and mixture."""
    chance = random.Random(seed)
    decisions: list[Decision] = []
    standing: Counter[str] = Counter()
    for offset in range(60):
        holds, ended = chance.randrange(4), chance.random() < 0.7
        held: list[Verdict] = ["held"]
        verdicts = held * holds + ([chance.choice(ENDS)] if ended or not holds else [])
        standing[verdicts[-1]] += 1
        last = decision(f"e-{offset}", verdict=verdicts[0], source_offset=offset)
        decisions.append(last)
        for verdict in verdicts[1:]:
            before, last = last, released(last, _next(decisions), verdict=verdict)
            decisions.append(last)
            for _ in range(chance.randrange(3)):
                decisions.append(released(before, _next(decisions), verdict="duplicate"))
    chance.shuffle(decisions)
    async with migrated(postgres) as pool:
        log = PostgresLog(pool)
        for start in range(0, len(decisions), 7):
            await log.write(decisions[start : start + 9], [])
        found = await books(pool)
        async with session(pool) as connection:
            written = await connection.fetchval("select count(*) from everpost.decision_log")
    ledger = balance(found, {(EVENTS, 0): 60})
    assert written == len(decisions)
    assert ledger.balanced, ledger.missing
    assert {d.verdict: 0 for d in found.decided} | {
        verdict: sum(d.events for d in found.decided if d.verdict == verdict) for verdict in standing
    } == dict(standing)
    assert (ledger.accepted, ledger.final, ledger.in_flight) == (60, 60 - standing["held"], standing["held"])


def _next(decisions: Sequence[Decision]) -> int:
    """The next offset of the releases."""
    return sum(d.source_topic == RELEASED for d in decisions)
