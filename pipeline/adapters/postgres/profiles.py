"""The users' profiles in PostgreSQL: read in bulk by the router, written by whoever owns the users.

A profile's `version` belongs to the database: triggers raise it with every change, writers pass none.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, time
from typing import Any

import asyncpg

from pipeline.adapters.postgres.errors import translated
from pipeline.adapters.postgres.pool import Connection, session
from pipeline.adapters.postgres.statements import load
from pipeline.model.event import Channel
from pipeline.model.profile import Address, AnyChannel, Profile, Wishes
from pipeline.ports import UserKey

_SQL = load("profiles")
_NOTHING: Wishes = {}


@dataclass(frozen=True, slots=True, kw_only=True)
class Suppression:
    """An address of a tenant that nothing is sent to any more."""

    tenant: str
    channel: Channel
    value: str  # personal data
    reason: str  # hard_bounce, complaint, dead_address, …: one word, as evidence
    at: datetime


class PostgresProfiles:
    """The port `Profiles`."""

    def __init__(self, pool: asyncpg.Pool) -> None:
        self._pool = pool

    async def fetch(self, users: Sequence[UserKey]) -> Mapping[UserKey, Profile]:
        """All of them in one query; a user that is asked for twice comes once, unknown ones are absent.

        Raises DependencyDown.
        """
        # PostgreSQL stores no NUL, so such a user is unknown, and must not fail the others.
        wanted = [user for user in dict.fromkeys(users) if "\0" not in user[0] and "\0" not in user[1]]
        async with session(self._pool) as connection:
            rows = await connection.fetch(_SQL["fetch"], [u[0] for u in wanted], [u[1] for u in wanted])
        return {(row[0], row[1]): _profile(row) for row in rows}


class PostgresPreferences:
    """The port `Preferences`."""

    def __init__(self, pool: asyncpg.Pool) -> None:
        self._pool = pool

    async def opt_out(self, tenant: str, user_id: str, category: str, channel: Channel) -> None:
        """The user gets no more of it; one who is gone gets nothing anyhow. Raises DependencyDown."""
        async with session(self._pool) as connection:
            await connection.execute(_SQL["opt_out"], tenant, user_id, category, channel)


def _profile(row: asyncpg.Record) -> Profile:
    (tenant, user_id, version, locale, timezone, enabled, quiet_from, quiet_until, ids, *rest) = row
    channels, values, registered, suppressed, *wishes = rest
    return Profile(
        tenant=tenant,
        user_id=user_id,
        version=version,
        locale=locale,
        timezone=timezone,
        enabled=enabled,
        quiet_from=quiet_from,
        quiet_until=quiet_until,
        addresses=()
        if ids is None
        else tuple(
            Address(address_id=i, channel=c, value=v, registered_at=r, suppressed=s)
            for i, c, v, r, s in zip(ids, channels, values, registered, suppressed, strict=True)
        ),
        preferences=_wishes(*wishes[:3]),
        tenant_defaults=_wishes(*wishes[3:]),
    )


def _wishes(categories: Any, channels: Any, allowed: Any) -> Wishes:
    """Three arrays of one length, or three nulls."""
    if categories is None:
        return _NOTHING
    return dict(zip(zip(categories, channels, strict=True), allowed, strict=True))


async def save_profiles(connection: Connection, profiles: Sequence[Profile]) -> None:
    """Insert or overwrite profiles with their addresses and preferences, in one transaction.

    Addresses and preferences that are not given stay as they are. The same again changes no address
    and no preference. What is the tenant's (defaults, suppressions) is not written.
    """
    addresses = [(p.tenant, p.user_id, a) for p in profiles for a in p.addresses]
    wishes = [(p.tenant, p.user_id, key, on) for p in profiles for key, on in p.preferences.items()]
    with translated():
        async with connection.transaction():
            await connection.execute(
                _SQL["save"],
                [p.tenant for p in profiles],
                [p.user_id for p in profiles],
                [p.locale for p in profiles],
                [p.timezone for p in profiles],
                [p.enabled for p in profiles],
                [p.quiet_from for p in profiles],
                [p.quiet_until for p in profiles],
            )
            await _add(connection, addresses)
            await connection.execute(
                _SQL["set_preferences"],
                [w[0] for w in wishes],
                [w[1] for w in wishes],
                [w[2][0] for w in wishes],
                [w[2][1] for w in wishes],
                [w[3] for w in wishes],
            )


async def add_address(connection: Connection, tenant: str, user_id: str, address: Address) -> None:
    """Add one address of a known user; a later registration of the same id makes it active again."""
    with translated():
        await _add(connection, [(tenant, user_id, address)])


async def _add(connection: Connection, addresses: Sequence[tuple[str, str, Address]]) -> None:
    await connection.execute(
        _SQL["add_addresses"],
        [a.address_id for _, _, a in addresses],
        [tenant for tenant, _, _ in addresses],
        [user_id for _, user_id, _ in addresses],
        [a.channel for _, _, a in addresses],
        [a.value for _, _, a in addresses],
        [a.registered_at for _, _, a in addresses],
    )


async def set_preference(
    connection: Connection, tenant: str, user_id: str, category: str, channel: AnyChannel, *, allowed: bool
) -> None:
    """Opt a known user in or out of a category on a channel; an empty one of the two stands for all."""
    with translated():
        await connection.execute(
            _SQL["set_preferences"], [tenant], [user_id], [category], [channel], [allowed]
        )


async def set_enabled(connection: Connection, tenant: str, user_id: str, *, enabled: bool) -> None:
    """Turn the global switch of a user; nothing happens when there is none."""
    with translated():
        await connection.execute(_SQL["set_enabled"], tenant, user_id, enabled)


async def set_tenant_default(
    connection: Connection, tenant: str, category: str, channel: AnyChannel, *, allowed: bool
) -> None:
    """Opt all users of a tenant in or out who say nothing themselves; an empty one of the two stands for all."""
    with translated():
        await connection.execute(_SQL["set_tenant_default"], tenant, category, channel, allowed)


async def set_quiet_hours(
    connection: Connection, tenant: str, user_id: str, quiet_from: time | None, quiet_until: time | None
) -> None:
    """Leave a known user in peace between two local times; both None: never."""
    with translated():
        await connection.execute(_SQL["set_quiet_hours"], tenant, user_id, quiet_from, quiet_until)


async def suppress(connection: Connection, suppressions: Sequence[Suppression]) -> int:
    """Put addresses on the suppression list; gives how many are new. The first reason stays."""
    if not suppressions:
        return 0
    with translated():
        status: str = await connection.execute(
            _SQL["suppress"],
            [s.tenant for s in suppressions],
            [s.channel for s in suppressions],
            [s.value for s in suppressions],
            [s.reason for s in suppressions],
            [s.at for s in suppressions],
        )
    return int(status.rpartition(" ")[2])


async def unsuppress(connection: Connection, tenant: str, channel: Channel, value: str) -> bool:
    """Take an address off the suppression list; False when it was not on it."""
    with translated():
        status: str = await connection.execute(_SQL["unsuppress"], tenant, channel, value)
    return status != "DELETE 0"


async def deactivate_address(connection: Connection, address_id: str, reason: str, at: datetime) -> bool:
    """Take an address out of use that the provider called dead at `at`.

    False when it is unknown, inactive already, or was registered again since.
    """
    return await deactivate_addresses(connection, [(address_id, reason, at)]) > 0


async def deactivate_addresses(connection: Connection, dead: Sequence[tuple[str, str, datetime]]) -> int:
    """The same for many (address_id, reason, at), in one transaction of the caller; gives how many.

    A mailbox that does not exist enters the tenant's suppression list too: the next user who registers it
    would bounce again, and providers count that against the sender.
    """
    if not dead:
        return 0
    with translated():
        await connection.execute(_SQL["bounce"], [id for id, _, _ in dead], [at for _, _, at in dead])
        status: str = await connection.execute(
            _SQL["deactivate"],
            [id for id, _, _ in dead],
            [reason for _, reason, _ in dead],
            [at for _, _, at in dead],
        )
    return int(status.removeprefix("UPDATE "))
