"""Profiles on a real PostgreSQL: read in bulk, versions by trigger."""

from collections.abc import Awaitable, Callable
from dataclasses import replace
from datetime import timedelta
from uuid import UUID

import pytest

from pipeline.adapters.postgres.pool import Connection, session
from pipeline.adapters.postgres.profiles import (
    PostgresProfiles,
    add_address,
    deactivate_address,
    save_profiles,
    set_enabled,
    set_preference,
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
    preferences={("offers", "email"): True, ("flights", "sms"): False},
)  # fmt: skip
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


async def test_saving_again_changes_what_differs(postgres: str) -> None:
    """The demo seeds its passengers at every start."""
    async with migrated(postgres) as pool, session(pool) as connection:
        await save_profiles(connection, [ADA])
        await save_profiles(connection, [replace(ADA, locale="fr"), BOB])
        found = await PostgresProfiles(pool).fetch([("acme", "ada"), ("acme", "bob")])
    assert replace(found["acme", "ada"], version=0) == replace(ADA, locale="fr")
