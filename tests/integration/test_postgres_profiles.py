"""Profiles on a real PostgreSQL: read in bulk, versions by trigger."""

from collections.abc import Awaitable, Callable
from dataclasses import replace
from datetime import time, timedelta
from uuid import UUID

import pytest

from pipeline.adapters.postgres.pool import Connection, session
from pipeline.adapters.postgres.profiles import (
    PostgresProfiles,
    Suppression,
    add_address,
    deactivate_address,
    save_profiles,
    set_enabled,
    set_preference,
    set_quiet_hours,
    set_tenant_default,
    suppress,
    unsuppress,
)
from pipeline.model.event import Channel
from pipeline.model.profile import Address, Profile
from tests.support.database import migrated
from tests.support.make import NOW

pytestmark = pytest.mark.integration


def address(number: int, channel: Channel = "sms") -> Address:
    """An address with a fixed id."""
    return Address(
        address_id=str(UUID(int=number)), channel=channel, value=f"+1555{number}", registered_at=NOW
    )


ADA = Profile(
    tenant="acme", user_id="ada", version=0, locale="de", timezone="Europe/Berlin",
    addresses=(address(1), address(2, "apns")),
    preferences={("offers", "email"): True, ("flights", "sms"): False, ("news", ""): False, ("", "fcm"): True},
    quiet_from=time(22), quiet_until=time(7, 30),
)  # fmt: skip
BAD = Suppression(tenant="acme", channel="sms", value="+15551", reason="hard_bounce", at=NOW)
BOB = Profile(tenant="acme", user_id="bob", version=0, enabled=False)


async def test_what_is_saved_comes_back_in_one_query(postgres: str) -> None:
    """All of a profile; asked twice it comes once, unknown users and impossible ids are absent."""
    async with migrated(postgres) as pool:
        async with session(pool) as connection:
            await save_profiles(connection, [ADA, BOB])
        wanted = [
            ("acme", "ada"),
            ("acme", "bob"),
            ("acme", "ada"),
            ("acme", "eve"),
            ("other", "ada"),
            ("acme", "a\0"),
        ]
        found = await PostgresProfiles(pool).fetch(wanted)
    assert found.keys() == {("acme", "ada"), ("acme", "bob")}
    assert {key: replace(profile, version=0) for key, profile in found.items()} == {
        ("acme", "ada"): ADA,
        ("acme", "bob"): BOB,
    }


CHANGES: dict[str, tuple[Callable[[Connection], Awaitable[object]], bool]] = {
    # name: change of Ada, and whether it makes a new version
    "switch off": (lambda c: set_enabled(c, "acme", "ada", enabled=False), True),
    "switch as it is": (lambda c: set_enabled(c, "acme", "ada", enabled=True), False),
    "new wish": (lambda c: set_preference(c, "acme", "ada", "flights", "email", allowed=False), True),
    "other wish": (lambda c: set_preference(c, "acme", "ada", "flights", "sms", allowed=True), True),
    "same wish": (lambda c: set_preference(c, "acme", "ada", "flights", "sms", allowed=False), False),
    "new address": (lambda c: add_address(c, "acme", "ada", address(3)), True),
    "same address": (lambda c: add_address(c, "acme", "ada", address(1)), False),
    "dead address": (lambda c: deactivate_address(c, address(1).address_id, "410", NOW + timedelta(1)), True),
    "address of nobody": (lambda c: deactivate_address(c, str(UUID(int=9)), "410", NOW), False),
    "quiet hours": (lambda c: set_quiet_hours(c, "acme", "ada", time(23), time(7, 30)), True),
    "same quiet hours": (lambda c: set_quiet_hours(c, "acme", "ada", time(22), time(7, 30)), False),
    "no quiet hours": (lambda c: set_quiet_hours(c, "acme", "ada", None, None), True),
    "suppressed": (lambda c: suppress(c, [BAD]), True),
    "suppressed elsewhere": (
        lambda c: suppress(c, [replace(BAD, tenant="other"), replace(BAD, channel="email")]),
        False,
    ),
    "nothing suppressed": (lambda c: suppress(c, []), False),
    "not on the list": (lambda c: unsuppress(c, "acme", "sms", "+15551"), False),
    # It would be a new version of all the tenant's profiles.
    "tenant default": (lambda c: set_tenant_default(c, "acme", "news", "sms", allowed=False), False),
    "somebody else": (lambda c: set_enabled(c, "acme", "bob", enabled=True), False),
    "deleted wishes": (lambda c: c.execute("delete from everpost.preference"), True),
}


@pytest.mark.parametrize("change", CHANGES)
async def test_every_change_of_the_three_tables_is_a_new_version(postgres: str, change: str) -> None:
    """A decision names the version that it was judged by, so what changes nothing must not raise it."""
    apply, raises = CHANGES[change]
    async with migrated(postgres) as pool:
        profiles = PostgresProfiles(pool)
        async with session(pool) as connection:
            await save_profiles(connection, [ADA, BOB])
            before = (await profiles.fetch([("acme", "ada")]))["acme", "ada"]
            await apply(connection)
        after = (await profiles.fetch([("acme", "ada")]))["acme", "ada"]
    assert (after.version > before.version) == raises


async def test_a_dead_address_is_gone_until_it_registers_again(postgres: str) -> None:
    """A provider's word counts only for registrations before it; a later one makes it active again."""
    dead, later = NOW + timedelta(minutes=1), NOW + timedelta(minutes=2)
    async with migrated(postgres) as pool:
        profiles = PostgresProfiles(pool)

        async def addresses() -> tuple[Address, ...]:
            return (await profiles.fetch([("acme", "ada")]))["acme", "ada"].addresses

        async with session(pool) as c:
            await save_profiles(c, [ADA])
            assert not await deactivate_address(c, address(1).address_id, "410", NOW)
            assert await deactivate_address(c, address(1).address_id, "410", dead)
            assert not await deactivate_address(c, address(1).address_id, "410", dead)
            assert await addresses() == (address(2, "apns"),)
            again = replace(address(1), registered_at=later)
            await add_address(c, "acme", "ada", again)
            assert not await deactivate_address(c, again.address_id, "410", dead)
            assert await addresses() == (address(2, "apns"), again)


async def test_a_suppressed_address_says_why_until_it_is_free(postgres: str) -> None:
    """Of the same tenant, channel and value, whoever has it; the first reason stays; each change is a version."""
    mailbox = replace(address(3, "email"), value="Ada@Example.com")
    async with migrated(postgres) as pool, session(pool) as c:
        await save_profiles(
            c, [replace(ADA, addresses=(address(1), mailbox)), replace(ADA, user_id="eve", addresses=())]
        )

        async def found() -> tuple[list[str], int]:
            ada = (await PostgresProfiles(pool).fetch([("acme", "ada")]))["acme", "ada"]
            return [a.suppressed for a in ada.addresses], ada.version

        reasons, first = await found()
        assert reasons == ["", ""]
        bounced = replace(BAD, channel="email", value="ADA@example.com", reason="complaint")
        assert await suppress(c, [BAD, bounced, replace(BAD, value="+15559")]) == 3
        assert await suppress(c, [replace(BAD, reason="other")]) == 0
        reasons, second = await found()
        assert (reasons, second > first) == (["hard_bounce", "complaint"], True)
        assert await unsuppress(c, "acme", "sms", "+15551")
        assert not await unsuppress(c, "acme", "sms", "+15551")
        reasons, third = await found()
        assert (reasons, third > second) == (["", "complaint"], True)


async def test_a_tenants_defaults_come_with_each_of_its_users(postgres: str) -> None:
    """Of the own tenant, at every level, and the latest word."""
    async with migrated(postgres) as pool, session(pool) as c:
        await save_profiles(c, [ADA, BOB, replace(BOB, tenant="other")])
        await set_tenant_default(c, "acme", "news", "", allowed=True)
        await set_tenant_default(c, "acme", "news", "", allowed=False)
        await set_tenant_default(c, "acme", "", "sms", allowed=True)
        profiles = await PostgresProfiles(pool).fetch([("acme", "ada"), ("acme", "bob"), ("other", "bob")])
    said = {("news", ""): False, ("", "sms"): True}
    assert [p.tenant_defaults for _, p in sorted(profiles.items())] == [said, said, {}]


async def test_saving_again_changes_what_differs(postgres: str) -> None:
    """The demo seeds its passengers at every start."""
    async with migrated(postgres) as pool, session(pool) as connection:
        await save_profiles(connection, [ADA])
        await save_profiles(connection, [replace(ADA, locale="fr"), BOB])
        found = await PostgresProfiles(pool).fetch([("acme", "ada"), ("acme", "bob")])
    assert replace(found["acme", "ada"], version=0) == replace(ADA, locale="fr")
