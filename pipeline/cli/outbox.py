"""`everpost outbox`: what waits for a relay, what is parked and why, and what an operator does about it."""

import asyncio
from dataclasses import asdict
from typing import Annotated
from uuid import UUID

import cyclopts
from cyclopts import Parameter
from rich.markup import escape

from pipeline import settings
from pipeline.adapters.postgres import waiting
from pipeline.adapters.postgres.pool import session
from pipeline.cli.show import answer, say
from pipeline.model.errors import ConfigurationError
from pipeline.model.shares import SHARES
from pipeline.wiring import clock, pool

_LIMIT = 20
_PATIENCE = 120.0  # seconds; Kafka Connect confirms once a minute
_SLOT = "everpost_outbox"  # as in infra/debezium/outbox.json

outbox = cyclopts.App(name="outbox")


@outbox.default
def show(
    *,
    limit: Annotated[int, Parameter(help="how many parked rows to name")] = _LIMIT,
    json: Annotated[bool, Parameter(help="print one JSON object on the last line")] = False,
) -> int:
    """Tell how many rows wait and since when, who drains them, and which rows are parked, with their reason.

    A parked row is one that Kafka will never take as it is: too large, unreadable, of a topic that takes no
    events. It holds up nobody, stands in the table everpost.outbox_parked, and counts in `everpost ledger`.
    Exit code 1 when rows are parked, or wait and nobody drains them.
    """
    found, rows = asyncio.run(_look(limit))
    lost = bool(found.waiting) and not sum(found.shares)
    if json:
        answer(asdict(found) | {"rows": [asdict(row) for row in rows]})
        return int(bool(found.parked) or lost)
    age = f", the oldest for {(clock() - found.oldest).total_seconds():,.1f} s" if found.oldest else ""
    say(f"waiting  {found.waiting:,}{age}")
    held = " + ".join(map(str, found.shares)) or "none"
    say(f"relays   {len(found.shares)}: {held} of {SHARES} shares")
    say(f"parked   {found.parked:,}")
    for row in rows:
        say(
            escape(
                f"  {row.outbox_id}  {row.type}  {row.topic}  {row.bytes:,} bytes  event {row.event_id}: {row.error}"
            )
        )
    if found.parked:
        say("after the cause is mended: everpost outbox release")
    if lost:
        say("nobody drains them: everpost run relay")
    return int(bool(found.parked) or lost)


@outbox.command
def release(
    ids: Annotated[list[str] | None, Parameter(help="of parked rows; default: all of them")] = None,
    /,
) -> int:
    """Let parked rows wait for a relay again, behind the others; what is still refused is parked anew.

    Example: everpost outbox release 6f1c1c1e-8f0b-5f0e-9d53-0b8d2f3f8a11
    """
    for one in ids or ():
        _check(one)
    say(f"{asyncio.run(_release(ids)):,} rows wait again")
    return 0


@outbox.command
def prune(
    *,
    slot: Annotated[str, Parameter(help="of the replication by which the table is read")] = _SLOT,
    wait: Annotated[float, Parameter(help="seconds for its reader to confirm what is there now")] = _PATIENCE,
) -> int:
    """Delete the rows that Debezium has passed on to Kafka: for who runs it in place of the relay.

    Waits until the reader of the slot has confirmed everything that is in the table now, then deletes just
    that. Run it every few minutes. Exit code 1 when it has not confirmed in time: nothing is deleted then.
    """
    if (deleted := asyncio.run(_prune(slot, wait))) is None:
        say(
            f"the reader of {escape(slot)} has not confirmed what is in the table within {wait:g} s: is it running?"
        )
        return 1
    say(f"{deleted:,} rows deleted")
    return 0


async def _look(limit: int) -> tuple[waiting.State, list[waiting.Parked]]:
    async with pool(settings.load()) as connections:
        return await waiting.state(connections), list(await waiting.parked(connections, limit))


async def _release(ids: list[str] | None) -> int:
    async with pool(settings.load()) as connections, session(connections) as connection:
        return await waiting.release(connection, ids)


async def _prune(slot: str, wait: float) -> int | None:
    async with pool(settings.load()) as connections:
        return await waiting.prune(connections, slot, wait)


def _check(id: str) -> None:
    try:
        UUID(id)
    except ValueError as error:
        raise ConfigurationError(f"{id!r} is no id of a row: everpost outbox lists them") from error
