"""`everpost breaker`: hold a provider off, let everything through, or leave it to the breaker again."""

import asyncio
from dataclasses import asdict
from typing import Annotated, Literal

from cyclopts import Parameter
from rich.markup import escape

from pipeline import settings
from pipeline.adapters.postgres import breakers
from pipeline.adapters.postgres.breakers import BreakerOrder
from pipeline.cli.show import answer, say
from pipeline.cli.wishes import channel_named
from pipeline.model.errors import ConfigurationError
from pipeline.settings import Settings
from pipeline.wiring import clock, pool

_SAID = {
    "open": "nothing is sent; deliveries wait, and no attempt is counted",
    "close": "everything is sent, however much of it fails",
    "auto": "the breaker decides by itself",
}


def breaker(
    do: Annotated[Literal["list", "open", "close", "auto"], Parameter(help="what to do")] = "list",
    channel: Annotated[str | None, Parameter(help="such as sms")] = None,
    /,
    *,
    provider: Annotated[str | None, Parameter(help="default: the first that serves the channel")] = None,
    why: Annotated[str, Parameter(help="for the record")] = "",
    json: Annotated[bool, Parameter(help="print JSON on the last line")] = False,
) -> int:
    """List the orders in force, or give one: it reaches every sender within two seconds, and stays.

    `open` stops all requests to a provider, `close` keeps its breaker from opening, `auto` takes either back.

    Example: everpost breaker open sms --why "provider announced maintenance"
    """
    current = settings.load()
    if do == "list":
        if channel is not None:
            raise ConfigurationError("list takes no channel: did you mean open, close or auto?")
        return _list(current, json)
    if channel is None or not why.strip():
        raise ConfigurationError(f'say which and why: everpost breaker {do} CHANNEL --why "..."')
    named = channel_named(channel)
    order = BreakerOrder(
        channel=named,
        provider=provider or next(iter(current.providers[named])),
        wish=do,
        why=why.strip(),
        at=clock(),
    )
    asyncio.run(_give(current, order))
    if json:
        answer(asdict(order))
    else:
        say(escape(f"{order.channel} by {order.provider}: {_SAID[order.wish]}"))
    return 0


async def _give(current: Settings, order: BreakerOrder) -> None:
    async with pool(current) as connections:
        await breakers.add(connections, order)


def _list(current: Settings, json: bool) -> int:
    async def ask() -> list[BreakerOrder]:
        async with pool(current) as connections:
            return [one for one in await breakers.last(connections) if one.wish != "auto"]

    found = asyncio.run(ask())
    if json:
        answer([asdict(one) for one in found])
        return 0
    for one in found:
        say(
            escape(
                f"{one.channel:<8} {one.provider:<10} {one.wish:<6} {one.at:%Y-%m-%d %H:%M} UTC  {one.why}"
            )
        )
    if not found:
        say("no order is in force: every breaker decides by itself")
    return 0
