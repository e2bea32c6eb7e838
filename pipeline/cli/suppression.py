"""`everpost suppression`: addresses of a tenant that nothing is sent to any more, whoever has them."""

import asyncio
import re
from dataclasses import asdict
from typing import Annotated, Literal

from cyclopts import Parameter
from rich.markup import escape

from pipeline import settings
from pipeline.adapters.postgres.pool import session
from pipeline.adapters.postgres.profiles import Suppression, suppress, unsuppress
from pipeline.adapters.postgres.suppressions import listed
from pipeline.cli.register import check_address
from pipeline.cli.show import answer, say
from pipeline.cli.wishes import channel_named
from pipeline.model.errors import ConfigurationError
from pipeline.settings import Settings
from pipeline.wiring import clock, pool


def suppression(
    do: Annotated[Literal["list", "add", "remove"], Parameter(help="what to do")] = "list",
    channel: Annotated[str | None, Parameter(help="of the address, such as sms")] = None,
    address: Annotated[str | None, Parameter(help="phone, mailbox, token or subscription")] = None,
    /,
    *,
    reason: Annotated[str, Parameter(help="one word, kept as evidence")] = "operator",
    tenant: Annotated[str, Parameter(help="whose list")] = "demo",
    limit: Annotated[int, Parameter(help="how many to list, the latest first")] = 100,
    json: Annotated[bool, Parameter(help="print JSON on the last line")] = False,
) -> int:
    """List the addresses that nothing is sent to, add one, or remove one: from the next decision on.

    Exit code 1 when the address to remove was not on the list.

    Example: everpost suppression add email ann@example.com --reason complaint
    """
    current = settings.load()
    if do == "list":
        if channel is not None:
            raise ConfigurationError("list takes no channel and address: did you mean add or remove?")
        return _list(current, tenant, limit, json)
    if channel is None or address is None:
        raise ConfigurationError(f"say which: everpost suppression {do} CHANNEL ADDRESS")
    if not re.fullmatch(r"[a-z][a-z0-9_]{0,63}", reason):
        raise ConfigurationError(f"--reason {reason!r}: give one word of a-z, 0-9 and _, such as complaint")
    named = channel_named(channel)
    check_address(named, address)
    one = Suppression(tenant=tenant, channel=named, value=address, reason=reason, at=clock())
    changed = asyncio.run(_change(current, one, add=do == "add"))
    if json:
        answer({"changed": changed})
    else:
        say(escape(f"{named} {address} {_SAID[do, changed]} of {tenant}"))
    return 0 if changed or do == "add" else 1


_SAID = {
    ("add", True): "is on the suppression list",
    ("add", False): "was, and with its first reason stays, on the suppression list",
    ("remove", True): "is off the suppression list",
    ("remove", False): "was not on the suppression list",
}


async def _change(current: Settings, one: Suppression, *, add: bool) -> bool:
    async with pool(current) as connections, session(connections) as connection:
        if add:
            return await suppress(connection, [one]) > 0
        return await unsuppress(connection, one.tenant, one.channel, one.value)


def _list(current: Settings, tenant: str, limit: int, json: bool) -> int:
    async def ask() -> tuple[Suppression, ...]:
        async with pool(current) as connections:
            return await listed(connections, tenant, limit)

    found = asyncio.run(ask())
    if json:
        answer([asdict(one) for one in found])
        return 0
    for one in found:
        say(escape(f"{one.channel:<8} {one.value:<40} {one.reason:<16} {one.at:%Y-%m-%d %H:%M} UTC"))
    if not found:
        say(escape(f"nothing is on the suppression list of {tenant}"))
    elif len(found) == limit:
        say(f"these are the latest {limit}; --limit shows more")
    return 0
