"""`everpost recall`: stop what is not handed over yet, and say for how much it is too late."""

import asyncio
from dataclasses import asdict
from typing import Annotated
from uuid import NAMESPACE_URL, uuid5

from cyclopts import Parameter
from rich.markup import escape

from pipeline import settings
from pipeline.adapters.postgres.recalls import PostgresRecalls, Reach
from pipeline.cli.show import answer, say
from pipeline.model.errors import ConfigurationError
from pipeline.model.recall import Recall
from pipeline.settings import Settings
from pipeline.wiring import catalogue, clock, pool


def recall(
    *,
    event: Annotated[str | None, Parameter(help="the id of one event")] = None,
    collapse_key: Annotated[str | None, Parameter(help="instead: every event with this collapse key")] = None,
    type: Annotated[str | None, Parameter(help="instead: every event of this type")] = None,
    template: Annotated[int | None, Parameter(help="with --type: only this version of its words")] = None,
    tenant: Annotated[str, Parameter(help="whose events")] = "demo",
    why: Annotated[str, Parameter(help="for the record: what is wrong with them")],
    json: Annotated[bool, Parameter(help="print one JSON object on the last line")] = False,
) -> int:
    """Withdraw events that were created until now; what a provider has already taken cannot come back.

    Within a second no stage sends them any more, whether they are on their way, wait for another
    attempt, or are held. Events that are published later are not meant, so the right words may follow.

    Example: everpost recall --type offer.weekend --template 3 --tenant demo --why "wrong price"
    """
    given = {"event_id": event, "collapse_key": collapse_key, "type": type}
    if sum(value is not None for value in given.values()) != 1 or not all(
        v is None or v for v in given.values()
    ):
        raise ConfigurationError("say what to recall: exactly one of --event, --collapse-key and --type")
    if template is not None and type is None:
        raise ConfigurationError("--template is a version of a type's words: give --type too")
    if not why.strip():
        raise ConfigurationError("--why is empty: say for the record what is wrong with them")
    current = settings.load()
    if type is not None and type not in (types := catalogue(current).types):
        raise ConfigurationError(f"--type {type!r} is not in the catalogue: {', '.join(sorted(types))}")
    at = clock()
    name = "\x1f".join(("everpost", tenant, at.isoformat(), *map(str, given.values()), str(template)))
    order = Recall(
        recall_id=str(uuid5(NAMESPACE_URL, name)), tenant=tenant, at=at, template_version=template, **given
    )
    reach = asyncio.run(_recall(current, order, why.strip()))
    if json:
        answer({"recall_id": order.recall_id, "at": at.isoformat(), "reach": asdict(reach)})
    else:
        say(f"{escape(order.evidence())} holds from now on")
        say(_told(reach) if reach.known else _unknown(order))
    return 0


async def _recall(current: Settings, order: Recall, why: str) -> Reach:
    async with pool(current) as connections:
        recalls = PostgresRecalls(connections)
        await recalls.add(order, why)
        return await recalls.reach(order)


def _told(reach: Reach) -> str:
    return (
        f"{reach.delivered:,} deliveries had been made already; {reach.open:,} on their way and "
        f"{reach.held:,} held events are stopped. See everpost why and everpost ledger for what became of them."
    )


def _unknown(order: Recall) -> str:
    """A slip in an id or tenant looks like an order that came in time."""
    if order.event_id is None:
        return f"No event of tenant {escape(order.tenant)} that it means is known so far: check --tenant too."
    return escape(
        f"No event {order.event_id!r} of tenant {order.tenant!r} is known so far. Check the id and --tenant; "
        f"everpost why {order.event_id} finds it whichever tenant it has. The order stays in force all the same."
    )
