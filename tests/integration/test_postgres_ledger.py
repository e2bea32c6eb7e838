"""Ledger and why on a real PostgreSQL."""

import asyncpg
import pytest

from pipeline.adapters.postgres.ledger import books
from pipeline.adapters.postgres.log import PostgresLog
from pipeline.adapters.postgres.pool import session, transaction
from pipeline.adapters.postgres.profiles import save_profiles
from pipeline.adapters.postgres.why import why_event, why_user
from pipeline.model.decision import ChannelVerdict, Gate, Planned
from pipeline.model.ledger import Ledger, balance
from pipeline.model.timeline import explain
from pipeline.sdk import outbox
from tests.support.database import migrated
from tests.support.log import decision, outcome
from tests.support.make import CATALOGUE, event, profile

pytestmark = pytest.mark.integration
EVENTS = "notification.events.normal"


def plan(*ids: str) -> tuple[Planned, ...]:
    """Deliveries by SMS."""
    return tuple(Planned(delivery_id=id, channel="sms", address_id=f"a-{id}") for id in ids)


DECISIONS = [
    decision("e-1", source_offset=0, deliveries=plan("d-1", "d-2"), gates=(Gate(gate="known", passed=True),),
             channels=(ChannelVerdict(channel="sms", allowed=True, reason="default"),), counters={"flights/sms": 3}),
    decision("e-1", source_offset=1, verdict="duplicate", reason="duplicate"),
    decision("e-2", source_offset=2, verdict="suppressed", reason="opted_out"),
    decision("e-3", source_offset=3, deliveries=plan("d-3")),
    decision("e-4", source_offset=0, verdict="rejected", reason="invalid", source_partition=1),
]  # fmt: skip
OUTCOMES = [
    outcome("d-1"),
    outcome("d-2", outcome="invalid_address", state="dead"),
    outcome("d-3", outcome="transient", state="in_flight", event_id="e-3"),
]


async def close(pool: asyncpg.Pool, *ends: int) -> Ledger:
    """The balance with these end offsets of partitions 0, 1 and so on."""
    return balance(await books(pool), {(EVENTS, n): end for n, end in enumerate(ends)})


async def test_a_day_balances(postgres: str) -> None:
    """Final, open, undecided and still in the outbox: every accepted event is somewhere."""
    async with migrated(postgres) as pool:
        await PostgresLog(pool).write(DECISIONS, OUTCOMES)
        async with transaction(pool) as connection:
            await outbox.enqueue(connection, event("e-9"), catalogue=CATALOGUE)
        ledger = await close(pool, 4, 2, 7)
    assert ledger.balanced, ledger.missing
    assert (ledger.accepted, ledger.final, ledger.in_flight) == (14, 4, 10)
    assert (ledger.outbox_waiting, ledger.undecided, ledger.deliveries_in_flight) == (1, 8, 1)
    assert (ledger.delivered, ledger.dead) == ({"sms": 1}, {"invalid_address": 1})
    assert (ledger.suppressed, ledger.rejected) == ({"opted_out": 1}, {"invalid": 1})
    assert [place.event_id for place in ledger.duplicate_of] == ["e-1"]


async def test_one_dropped_decision_is_named(postgres: str) -> None:
    """Drop one record, see its topic, partition and offset."""
    async with migrated(postgres) as pool:
        await PostgresLog(pool).write([d for d in DECISIONS if d.event_id != "e-2"], OUTCOMES)
        ledger = await close(pool, 4, 1)
    assert not ledger.balanced
    assert ledger.missing == (f"event {EVENTS}[0] offsets 2 to 2: no decision",)


async def test_the_first_offset_can_be_missing_too(postgres: str) -> None:
    """A hole at the beginning is a hole."""
    async with migrated(postgres) as pool:
        await PostgresLog(pool).write(DECISIONS[2:], OUTCOMES)
        assert (await close(pool, 4, 1)).missing[0] == f"event {EVENTS}[0] offsets 0 to 1: no decision"


async def test_a_lost_delivery_row_is_named(postgres: str) -> None:
    """A planned delivery that the log does not have belongs to nobody else's count."""
    async with migrated(postgres) as pool:
        await PostgresLog(pool).write(DECISIONS, OUTCOMES)
        async with session(pool) as connection:
            await connection.execute("delete from everpost.delivery_log where delivery_id = 'd-2'")
        ledger = await close(pool, 4, 1)
    assert not ledger.balanced
    assert ledger.missing == ("delivery d-2 of event e-1: no row",)


async def test_erasing_a_user_changes_no_balance(postgres: str) -> None:
    """Profile, addresses and wishes go; what was accepted and what became of it is counted as before."""
    async with migrated(postgres) as pool:
        async with session(pool) as connection:
            await save_profiles(connection, [profile("u-1")])
        await PostgresLog(pool).write(DECISIONS, OUTCOMES)
        before = await close(pool, 4, 1)
        async with session(pool) as connection:
            assert (
                await connection.execute("delete from everpost.profile where user_id = 'u-1'") == "DELETE 1"
            )
            assert await connection.fetchval("select count(*) from everpost.address") == 0
        assert await close(pool, 4, 1) == before
    assert before.balanced


async def test_an_empty_installation_balances(postgres: str) -> None:
    """Nothing accepted, nothing missing."""
    async with migrated(postgres) as pool:
        ledger = await close(pool, 0, 0)
    assert (ledger.balanced, ledger.accepted) == (True, 0)


async def test_why_tells_an_event_from_the_outbox_to_the_last_attempt(postgres: str) -> None:
    """Every record of the id, newest first, as it was decided, with its deliveries and attempts."""
    async with migrated(postgres) as pool:
        await PostgresLog(pool).write(DECISIONS, OUTCOMES)
        async with transaction(pool) as connection:
            await outbox.enqueue(connection, event("e-1"), catalogue=CATALOGUE)
        why = await why_event(pool, "e-1")
        nobody = await why_event(pool, "e-\0")
    assert [t.decision for t in why.timelines] == [DECISIONS[1], DECISIONS[0]]
    assert [(c.delivery_id, c.state, len(c.attempts)) for c in why.timelines[1].courses] == [
        ("d-1", "delivered", 1),
        ("d-2", "dead", 1),
    ]
    assert [w.event_id for w in why.waiting] == ["e-1"]
    assert "waits in the outbox" in next(explain(why))
    assert (nobody.timelines, nobody.waiting) == ((), ())


async def test_why_of_a_user_gives_the_latest_events(postgres: str) -> None:
    """What support asks when a user heard nothing."""
    async with migrated(postgres) as pool:
        await PostgresLog(pool).write(DECISIONS, OUTCOMES)
        why = await why_user(pool, ("acme", "u-1"), limit=2)
        stranger = await why_user(pool, ("acme", "u-2"))
    assert len(why.timelines) == 2
    assert stranger.timelines == ()
