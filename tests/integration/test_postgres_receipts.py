"""What came back, in PostgreSQL: kept once, asked for by the sender, and heeded by the next decision."""

from dataclasses import replace
from datetime import timedelta
from typing import Any

import asyncpg
import pytest

from pipeline.adapters.postgres.log import PostgresLog
from pipeline.adapters.postgres.profiles import PostgresProfiles, save_profiles
from pipeline.adapters.postgres.receipts import PostgresOwners, PostgresReceipts
from pipeline.adapters.postgres.why import why_event
from pipeline.model.decision import Planned
from pipeline.model.delivery import Owner
from pipeline.model.engagement import Engagement
from tests.support.database import dump, migrated
from tests.support.log import decision, outcome
from tests.support.make import NOW, profile

pytestmark = pytest.mark.integration
HERS = profile("u-1")
PHONE = next(one for one in HERS.addresses if one.channel == "sms")
KEY = (HERS.tenant, HERS.user_id)
SENT = PHONE.registered_at + timedelta(hours=1)
LATER = PHONE.registered_at + timedelta(days=1)


def told(kind: str = "receipt", fate: str = "delivered", **changes: Any) -> Engagement:
    """A receipt for delivery d-1."""
    values: dict[str, Any] = {
        "engagement_id": f"{kind}-{fate}",
        "delivery_id": "d-1",
        "user_id": "u-1",
        "tenant": "acme",
        "channel": "sms",
        "kind": kind,
        "facts": {"fate": fate, "code": "7", "odd": "nul \0 in it"},
        "at": LATER,
    }
    return Engagement(**{**values, **changes})


async def known(pool: asyncpg.Pool) -> PostgresLog:
    """The user, and a delivery to her phone."""
    async with pool.acquire() as connection:
        await save_profiles(connection, [HERS])
    log = PostgresLog(pool)
    await log.write([], [outcome("d-1", address_id=PHONE.address_id, at=SENT)])
    return log


async def phone(pool: asyncpg.Pool) -> str | None:
    """Why her phone is suppressed, empty when it is not; None when it is out of use."""
    profiles = await PostgresProfiles(pool).fetch([KEY])
    found = [one for one in profiles[KEY].addresses if one.address_id == PHONE.address_id]
    return found[0].suppressed if found else None


async def test_facts_are_kept_once_and_the_best_one_is_told(postgres: str) -> None:
    """However often and in whatever order they come, that it arrived counts most."""
    async with migrated(postgres) as pool:
        log = await known(pool)
        receipts, owners = PostgresReceipts(pool), PostgresOwners(pool)
        assert await receipts.fate("d-1") is None
        assert await owners.find("d-1") == Owner("acme", "u-1", "e-1", "sms")
        assert await owners.find("d-\0") is await owners.find("d-2") is None
        await log.write([], [], [told(fate="under_way"), told("bounce", "failed", at=NOW)])
        assert await receipts.fate("d-1") == "failed"
        for _ in range(2):
            await log.write([], [], [told(), told("bounce", "failed", at=NOW)])
        assert await receipts.fate("d-1") == "delivered"
        assert len((await dump(pool, "engagement_log"))["engagement_log"]) == 3
        assert await phone(pool) == ""


@pytest.mark.parametrize("kind", ["complaint", "unsubscribe"])
async def test_who_complains_is_suppressed_from_the_next_decision_on(postgres: str, kind: str) -> None:
    """With the reason beside the address; again changes nothing, and one about nobody neither."""
    async with migrated(postgres) as pool:
        log = await known(pool)
        for _ in range(2):
            await log.write([], [], [told(kind, "complained"), told(kind, "opted_out", delivery_id="d-9")])
        assert await phone(pool) == kind
        assert len((await dump(pool, "suppression"))["suppression"]) == 1


async def test_a_dead_number_goes_out_of_use_unless_it_was_registered_since(postgres: str) -> None:
    """A receipt may say so after the provider took the message."""
    async with migrated(postgres) as pool:
        log = await known(pool)
        early = PHONE.registered_at - timedelta(days=1)
        await log.write([], [], [told("bounce", "dead_address", engagement_id="early", at=early)])
        assert await phone(pool) == ""
        await log.write([], [], [told("bounce", "dead_address")] * 2)
        assert await phone(pool) is None
        again = replace(HERS, addresses=(replace(PHONE, registered_at=LATER + timedelta(days=1)),))
        async with pool.acquire() as connection:
            await save_profiles(connection, [again])
        await log.write([], [], [told("bounce", "dead_address", at=LATER + timedelta(days=2))])
        late = told("bounce", "dead_address", engagement_id="late", at=LATER + timedelta(days=2))
        await log.write([], [], [late])
        assert await phone(pool) == ""  # what was sent before says nothing of her new registration


async def test_why_tells_what_came_back(postgres: str) -> None:
    """In order, with its code, beside the attempts of its delivery."""
    planned = Planned(delivery_id="d-1", channel="sms", address_id=PHONE.address_id)
    async with migrated(postgres) as pool:
        log = await known(pool)
        ended = Engagement(
            engagement_id="u",
            delivery_id="d-1",
            user_id="u-1",
            tenant="acme",
            channel="sms",
            kind="unsubscribe",
            facts={"category": "flights", "by": "page"},
            at=LATER + timedelta(hours=1),
        )
        await log.write([decision(deliveries=(planned,))], [], [ended, told("bounce", "failed")])
        (course,) = (await why_event(pool, "e-1")).timelines[0].courses
    assert [(one.kind, one.fate, one.code, one.category) for one in course.told] == [
        ("bounce", "failed", "7", ""),
        ("unsubscribe", "", "", "flights"),
    ]
    assert [one.provider for one in course.attempts] == ["vonage"]
