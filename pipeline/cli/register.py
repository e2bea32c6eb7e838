"""`everpost register`: a user with addresses and wishes, as an app's back end would register them."""

import asyncio
import re
from collections.abc import Mapping
from dataclasses import replace
from typing import Annotated, Any
from uuid import NAMESPACE_URL, uuid5

from cyclopts import Parameter
from rich.markup import escape

from pipeline import settings
from pipeline.adapters.postgres.pool import transaction
from pipeline.adapters.postgres.profiles import PostgresProfiles, save_profiles
from pipeline.cli.show import say
from pipeline.cli.wishes import FORM, categories, wishes
from pipeline.model.errors import ConfigurationError
from pipeline.model.event import CHANNELS, Channel
from pipeline.model.profile import Address, Profile
from pipeline.model.quiet import zone
from pipeline.settings import Settings
from pipeline.wiring import clock, pool

_SHAPES: Mapping[Channel, tuple[str, str]] = {
    "sms": (r"\+[1-9]\d{6,14}", "a phone number in E.164, such as +19175550100"),
    "email": (r"[^@\s]+@[^@\s]+", "a mailbox, such as ann@example.com"),
    "webpush": (r'\{.*"endpoint".*"keys".*\}', "the JSON of a subscription, with its endpoint and keys"),
}


def register(  # noqa: PLR0913 - one option for each thing that a user may have
    user: Annotated[str, Parameter(help="the user's id in your own system")],
    /,
    *,
    tenant: Annotated[str, Parameter(help="the tenant that the user belongs to")] = "demo",
    locale: Annotated[str | None, Parameter(help="language, as BCP 47; default: as before, else en")] = None,
    timezone: Annotated[str | None, Parameter(help="IANA time zone; default: as before, else UTC")] = None,
    email: Annotated[list[str] | None, Parameter(help="mailbox; may be repeated")] = None,
    sms: Annotated[list[str] | None, Parameter(help="phone in E.164; may be repeated")] = None,
    apns: Annotated[list[str] | None, Parameter(help="device token; may be repeated")] = None,
    fcm: Annotated[list[str] | None, Parameter(help="registration token; may be repeated")] = None,
    webpush: Annotated[list[str] | None, Parameter(help="subscription as JSON; may be repeated")] = None,
    opt_out: Annotated[list[str] | None, Parameter(help=f"{FORM}; may be repeated")] = None,
) -> int:
    """Register a user, or more addresses and wishes of one.

    Example: everpost register u-42 --email ann@example.com --sms +19175550100 --opt-out offers:sms
    """
    current = settings.load()
    values = {"email": email, "sms": sms, "apns": apns, "fcm": fcm, "webpush": webpush}
    _check(user, locale, timezone)
    addresses = tuple(
        _address(tenant, user, channel, value) for channel in CHANNELS for value in values[channel] or ()
    )
    unwanted = dict.fromkeys(wishes(opt_out or (), categories(current)), False)
    changes = {"locale": locale, "timezone": timezone}
    given = {name: value for name, value in changes.items() if value is not None}
    new = Profile(tenant=tenant, user_id=user, version=1)
    asyncio.run(_save(current, new, {**given, "addresses": addresses, "preferences": unwanted}))
    say(
        escape(
            f"registered {tenant}/{user}: {len(addresses)} addresses and {len(unwanted)} opt-outs were given"
        )
    )
    return 0


async def _save(current: Settings, new: Profile, changes: Mapping[str, Any]) -> None:
    """Change what was given; the rest of a known user stays."""
    user = (new.tenant, new.user_id)
    async with pool(current) as connections:
        known = await PostgresProfiles(connections).fetch([user])
        async with transaction(connections) as connection:
            await save_profiles(connection, [replace(known.get(user, new), **changes)])


def _check(user: str, locale: str | None, timezone: str | None) -> None:
    if not (1 <= len(user) <= 128 and user.isprintable()):
        raise ConfigurationError(f"{user!r} is no user id: give 1 to 128 printable characters")
    if locale is not None and not re.fullmatch(r"[A-Za-z]{2,8}([-_][A-Za-z0-9]{1,8})*", locale):
        raise ConfigurationError(f"--locale {locale!r}: give a language tag, such as pt-BR")
    if timezone is not None and zone(timezone) is None:
        raise ConfigurationError(f"--timezone {timezone!r}: give an IANA name, such as Europe/Berlin")


def check_address(channel: Channel, value: str) -> None:
    """Raises ConfigurationError, with the right form, when this cannot be an address of the channel."""
    shape, words = _SHAPES.get(channel, (r".+", "not empty"))
    if not re.fullmatch(shape, value):
        raise ConfigurationError(f"{channel} {value!r}: give {words}")


def _address(tenant: str, user: str, channel: Channel, value: str) -> Address:
    check_address(channel, value)
    return Address(
        # The same address registered again keeps its id, and so its deliveries.
        address_id=str(uuid5(NAMESPACE_URL, "\x1f".join(("everpost", tenant, user, channel, value)))),
        channel=channel,
        value=value,
        registered_at=clock(),
    )
