"""The notification log on a real PostgreSQL: the same records in any mixture give the same rows."""

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta
from uuid import UUID

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.adapters.postgres import suppressions
from pipeline.adapters.postgres.log import PostgresLog
from pipeline.adapters.postgres.pool import session
from pipeline.adapters.postgres.profiles import PostgresProfiles, save_profiles
from pipeline.model.decision import Decision, Planned
from pipeline.model.outcome import Outcome
from pipeline.model.profile import Address, Profile
from tests.support.database import dump, migrated
from tests.support.log import decision, histories, outcome
from tests.support.make import NOW

pytestmark = pytest.mark.integration
TABLES = ("decision_log", "delivery_log", "attempt_log")
Record = Decision | Outcome
Write = list[Record]


@st.composite
def mixtures(draw: st.DrawFn, records: Sequence[Record]) -> list[Write]:
    """Every record at least once, some again, in any order, cut into batches anywhere."""
    again = draw(st.lists(st.sampled_from(records), max_size=5)) if records else []
    mixed = draw(st.permutations([*records, *again]))
    batches: list[Write] = [[]]
    for record in mixed:
        batches[-1].append(record)
        if draw(st.booleans()):
            batches.append([])
    return batches


def test_any_interleaving_with_any_repeats_gives_the_same_rows(postgres: str) -> None:
    """Consumers crash, rebalance and read again: the log does not show it."""
    with asyncio.Runner() as runner:

        async def written(batches: Sequence[Write]) -> object:
            async with migrated(postgres) as pool:
                async with session(pool) as connection:
                    await connection.execute(
                        "truncate everpost.decision_log, everpost.delivery_log, everpost.attempt_log"
                    )
                for batch in batches:
                    await PostgresLog(pool).write(
                        [record for record in batch if isinstance(record, Decision)],
                        [record for record in batch if isinstance(record, Outcome)],
                    )
                return await dump(pool, *TABLES)

        @settings(max_examples=60, deadline=None)
        @given(histories(), st.data())
        def check(history: tuple[list[Decision], list[Outcome]], data: st.DataObject) -> None:
            records: Write = [*history[0], *history[1]]
            straight = runner.run(written([records]))
            assert runner.run(written(data.draw(mixtures(records)))) == straight

        check()


async def test_a_late_older_outcome_is_a_no_op_and_a_repeat_is_counted(postgres: str) -> None:
    """The state is the latest attempt's; every attempt is kept, a repeated one twice."""
    first = outcome(outcome="transient", state="in_flight", tier="10s", not_before=NOW)
    again = replace(first, at=NOW + timedelta(seconds=40))
    second = outcome(attempt=2, at=NOW + timedelta(seconds=90), provider_id="m-1")
    plan = decision(deliveries=(Planned(delivery_id="d-1", channel="sms", address_id="a-1"),))
    async with migrated(postgres) as pool:
        log = PostgresLog(pool)
        for batch in ([second], [first], [again, first]):
            await log.write([], batch)
        await log.write([plan], [])
        tables = await dump(pool, *TABLES)
    (row,) = tables["delivery_log"]
    assert (row["state"], row["attempt"], row["provider_id"], row["planned_offset"]) == (
        "delivered",
        2,
        "m-1",
        0,
    )
    assert [(r["attempt"], r["at"]) for r in tables["attempt_log"]] == [
        (1, NOW),
        (1, again.at),
        (2, second.at),
    ]


async def test_a_dead_address_is_taken_out_of_use_with_the_outcome(postgres: str) -> None:
    """In the same transaction; an address that nobody could have stored is passed over."""
    mine, other = (
        Address(address_id=str(UUID(int=n)), channel="sms", value=f"+1{n}", registered_at=NOW) for n in (1, 2)
    )
    dead = outcome(outcome="invalid_address", state="dead", address_id=mine.address_id, at=NOW + timedelta(1))
    stale = replace(dead, delivery_id="d-2", address_id=other.address_id, at=NOW - timedelta(1))
    odd = replace(dead, delivery_id="d-3", address_id="no uuid")
    async with migrated(postgres) as pool:
        async with session(pool) as connection:
            await save_profiles(
                connection, [Profile(tenant="acme", user_id="u-1", version=0, addresses=(mine, other))]
            )
        await PostgresLog(pool).write([], [dead, stale, odd])
        found = await PostgresProfiles(pool).fetch([("acme", "u-1")])
    assert found["acme", "u-1"].addresses == (other,)


async def test_a_hard_bounce_enters_the_suppression_list(postgres: str) -> None:
    """Whoever else has the mailbox gets nothing either, from the next decision on; a dead phone is only its own."""
    box = Address(address_id=str(UUID(int=1)), channel="email", value="Ann@example.com", registered_at=NOW)
    phone = replace(box, address_id=str(UUID(int=2)), channel="sms", value="+12")
    again = replace(box, address_id=str(UUID(int=3)), value="b@example.com")
    other = replace(box, address_id=str(UUID(int=4)), value="ann@example.com")
    at = NOW + timedelta(1)
    dead = [
        outcome(
            f"d-{n}",
            outcome="invalid_address",
            state="dead",
            channel=one.channel,
            address_id=one.address_id,
            at=when,
        )
        for n, (one, when) in enumerate([(box, at), (phone, at), (again, NOW - timedelta(1))])
    ]
    async with migrated(postgres) as pool:
        async with session(pool) as connection:
            await save_profiles(
                connection,
                [
                    Profile(tenant="acme", user_id="u-1", version=0, addresses=(box, phone, again)),
                    Profile(tenant="acme", user_id="u-2", version=0, addresses=(other,)),
                ],
            )
        for _ in range(2):
            await PostgresLog(pool).write([], dead)
        (listed,) = await suppressions.listed(pool, "acme", 10)
        found = await PostgresProfiles(pool).fetch([("acme", "u-1"), ("acme", "u-2")])
    assert (listed.channel, listed.value, listed.reason, listed.at) == (
        "email",
        "ann@example.com",
        "hard_bounce",
        at,
    )
    assert found["acme", "u-1"].addresses == (again,)
    assert [one.suppressed for one in found["acme", "u-2"].addresses] == ["hard_bounce"]


async def test_a_record_with_nul_bytes_does_not_stop_the_log(postgres: str) -> None:
    """PostgreSQL stores no NUL; a record that came past the door may hold one anywhere."""
    bad = decision(event_id="e\0vil", verdict="rejected", reason="invalid", counters={"a\0b": 1})
    async with migrated(postgres) as pool:
        await PostgresLog(pool).write([bad], [outcome(reason="nul \0")])
        tables = await dump(pool, *TABLES)
    assert tables["decision_log"][0]["event_id"] == "e\ufffdvil"
    assert tables["attempt_log"][0]["reason"] == "nul \ufffd"
