"""`everpost user`, `opt-out`, `opt-in`, `quiet-hours` and `tenant-default`: what a user wants, seen and changed."""

import asyncio
from collections.abc import Awaitable, Callable, Iterator, Mapping
from dataclasses import replace
from datetime import datetime, time
from typing import Annotated, Any, Literal

from cyclopts import Parameter
from rich.markup import escape

from pipeline import settings
from pipeline.adapters.postgres.pool import Connection, transaction
from pipeline.adapters.postgres.profiles import (
    PostgresProfiles,
    save_profiles,
    set_enabled,
    set_preference,
    set_quiet_hours,
    set_tenant_default,
)
from pipeline.cli.show import answer, say
from pipeline.cli.wishes import FORM, categories, spoken, wishes
from pipeline.model.catalogue import Category
from pipeline.model.errors import ConfigurationError
from pipeline.model.event import CHANNELS
from pipeline.model.preferences import allows
from pipeline.model.profile import Profile
from pipeline.model.quiet import opens_at, zone
from pipeline.settings import Settings
from pipeline.wiring import clock, pool

User = Annotated[str, Parameter(help="the user's id in your own system")]
Tenant = Annotated[str, Parameter(help="the tenant that the user belongs to")]
Wish = Annotated[list[str] | None, Parameter(help=FORM)]
AsJson = Annotated[bool, Parameter(help="print what holds now as one JSON object on the last line")]
Change = Callable[[Connection, Profile], Awaitable[None]]


def user(user: User, /, *, tenant: Tenant = "demo", json: AsJson = False) -> int:
    """Show what the router knows of a user: quiet hours, addresses, and what is wanted on which channel."""
    return _changed(settings.load(), (tenant, user), None, json)


def opt_out(
    user: User,
    wish: Wish = None,
    /,
    *,
    all: Annotated[bool, Parameter(help="the global switch: nothing but required categories")] = False,
    tenant: Tenant = "demo",
    json: AsJson = False,
) -> int:
    """Opt a user out of categories or channels, from the router's next decision on.

    Example: everpost opt-out u-42 offers:sms
    """
    return _wished((tenant, user), wish or [], all, json, allowed=False)


def opt_in(
    user: User,
    wish: Wish = None,
    /,
    *,
    all: Annotated[bool, Parameter(help="the global switch on again; single opt-outs stay")] = False,
    tenant: Tenant = "demo",
    json: AsJson = False,
) -> int:
    """Opt a user in to categories or channels; the most specific word of a user counts.

    Example: everpost opt-in u-42 offers:sms
    """
    return _wished((tenant, user), wish or [], all, json, allowed=True)


def quiet_hours(
    user: User,
    begin: Annotated[str | None, Parameter(help="local time, such as 22:00")] = None,
    end: Annotated[str | None, Parameter(help="local time, such as 07:00")] = None,
    /,
    *,
    off: Annotated[bool, Parameter(help="instead: no quiet hours any more")] = False,
    timezone: Annotated[str | None, Parameter(help="IANA time zone; default: as it is")] = None,
    tenant: Tenant = "demo",
    json: AsJson = False,
) -> int:
    """Leave a user in peace between two times of their own clock: events are held until then, not dropped.

    Urgent events and required categories pass.

    Example: everpost quiet-hours u-42 22:00 07:00 --timezone Europe/Berlin
    """
    if off == (end is not None) or (begin is None) != (end is None):
        raise ConfigurationError("give two times, such as 22:00 07:00, or --off")
    if timezone is not None and zone(timezone) is None:
        raise ConfigurationError(f"--timezone {timezone!r}: give an IANA name, such as Europe/Berlin")
    window = (None, None) if begin is None or end is None else (_time(begin), _time(end))
    if window[0] is not None and window[0] == window[1]:
        raise ConfigurationError(f"from {begin} to {end} is no time at all: give --off for no quiet hours")

    async def change(connection: Connection, known: Profile) -> None:
        if timezone is not None:
            alone = replace(known, timezone=timezone, addresses=(), preferences={})  # what is not given stays
            await save_profiles(connection, [alone])
        await set_quiet_hours(connection, tenant, user, *window)

    return _changed(settings.load(), (tenant, user), change, json)


def tenant_default(
    allowed: Annotated[Literal["on", "off"], Parameter(help="what holds for who says nothing")],
    wish: Annotated[list[str], Parameter(help=FORM)],
    /,
    *,
    tenant: Annotated[str, Parameter(help="whose users")] = "demo",
) -> int:
    """Say for all users of a tenant what they get while they say nothing themselves.

    Example: everpost tenant-default off offers:sms --tenant demo
    """
    current = settings.load()
    named = wishes(wish, categories(current))

    async def change() -> None:
        async with pool(current) as connections, transaction(connections) as connection:
            for category, channel in named:
                await set_tenant_default(connection, tenant, category, channel, allowed=allowed == "on")

    asyncio.run(change())
    say(
        f"{', '.join(map(spoken, named))} is {allowed} for users of {escape(tenant)} who say nothing themselves"
    )
    return 0


def _wished(user: tuple[str, str], texts: list[str], all: bool, json: bool, *, allowed: bool) -> int:
    if bool(texts) == all:
        raise ConfigurationError(f"say what: {FORM}; or --all")
    current = settings.load()
    named = wishes(texts, categories(current))

    async def change(connection: Connection, _known: Profile) -> None:
        if all:
            await set_enabled(connection, *user, enabled=allowed)
        for category, channel in named:
            await set_preference(connection, *user, category, channel, allowed=allowed)

    return _changed(current, user, change, json)


def _time(text: str) -> time:
    try:
        found = time.fromisoformat(text)
    except ValueError:
        found = None
    if found is None or found.tzinfo is not None:
        raise ConfigurationError(f"{text!r} is no time of day: write it as 22:00")
    return found


def _changed(current: Settings, user: tuple[str, str], change: Change | None, json: bool) -> int:
    """Change something of a known user, then show what holds."""
    profile = asyncio.run(_apply(current, user, change))
    now, known = clock(), categories(current)
    if json:
        answer(_as_json(profile, known, now))
    else:
        for line in _lines(profile, known, now):
            say(line)
    return 0


async def _apply(current: Settings, user: tuple[str, str], change: Change | None) -> Profile:
    async with pool(current) as connections:
        profiles = PostgresProfiles(connections)
        if (known := (await profiles.fetch([user])).get(user)) is None:
            tenant, user_id = user
            raise ConfigurationError(
                f"no user {user_id!r} of tenant {tenant!r} is registered: check both, or register the user with "
                f"everpost register {user_id} --tenant {tenant} --email ..."
            )
        if change is None:
            return known
        async with transaction(connections) as connection:
            await change(connection, known)
        return (await profiles.fetch([user]))[user]


def _as_json(profile: Profile, known: Mapping[str, Category], now: datetime) -> dict[str, Any]:
    return {
        "tenant": profile.tenant,
        "user_id": profile.user_id,
        "version": profile.version,
        "locale": profile.locale,
        "timezone": profile.timezone,
        "enabled": profile.enabled,
        "quiet_from": profile.quiet_from,
        "quiet_until": profile.quiet_until,
        "quiet_now": opens_at(profile, now) > now,
        "addresses": [
            {"address_id": a.address_id, "channel": a.channel, "suppressed": a.suppressed}
            for a in profile.addresses
        ],
        "wanted": [
            {"category": name, "channel": channel, "allowed": said.allowed, "reason": said.reason}
            for name, category in known.items()
            for channel in CHANNELS
            for said in (allows(profile, category, channel),)
        ],
    }


def _lines(profile: Profile, known: Mapping[str, Category], now: datetime) -> Iterator[str]:
    until = opens_at(profile, now)
    window = (
        "none"
        if profile.quiet_from is None
        else f"{profile.quiet_from:%H:%M} to {profile.quiet_until:%H:%M}"
        + (f", now and until {until:%Y-%m-%d %H:%M} UTC" if until > now else ", not now")
    )
    yield escape(
        f"{profile.tenant}/{profile.user_id}, profile version {profile.version}, language {profile.locale}"
    )
    yield f"time zone    {escape(profile.timezone)}"
    yield f"quiet hours  {window}"
    yield f"switch       {'on' if profile.enabled else 'off: only required categories'}"
    for address in profile.addresses:
        gone = f", on the suppression list: {address.suppressed}" if address.suppressed else ""
        yield escape(f"address      {address.channel} {address.address_id}{gone}")
    if not profile.addresses:
        yield f"address      none that is active: everpost register {escape(profile.user_id)} --email ..."
    for name, category in known.items():
        for channel in CHANNELS:
            said = allows(profile, category, channel)
            yield escape(f"{name:<12} {channel:<8} {'yes' if said.allowed else 'no':<4} {said.reason}")
