"""`everpost why`: what became of this one."""

import asyncio
from typing import Annotated

from cyclopts import Parameter

from pipeline import settings
from pipeline.adapters.postgres.why import why_event, why_user
from pipeline.cli.show import answer, say
from pipeline.model.errors import ConfigurationError
from pipeline.model.timeline import Why, explain
from pipeline.settings import Settings
from pipeline.wiring import pool

AsJson = Annotated[bool, Parameter(help="print one JSON object on the last line")]


def why(
    event_id: Annotated[str | None, Parameter(help="the event's id")] = None,
    /,
    *,
    user: Annotated[str | None, Parameter(help="instead: the latest events of this user")] = None,
    tenant: Annotated[str, Parameter(help="the user's tenant")] = "demo",
    json: AsJson = False,
) -> int:
    """Explain what became of an event, gate by gate; or of the latest events of a user.

    Exit code 1 when nothing is known of it.
    """
    if bool(event_id) == bool(user):
        raise ConfigurationError("give either an event id, or --user and its --tenant")
    found = asyncio.run(_why(settings.load(), event_id, (tenant, user or "")))
    if json:
        answer(found)
    elif not (found.timelines or found.waiting):
        what = f"event {event_id}" if event_id else f"user {tenant}/{user}"
        say(f"Nothing is known of {what}: it was not accepted, or the account stage has not seen it yet.")
    else:
        for line in explain(found):
            say(line)
    return 0 if found.timelines or found.waiting else 1


async def _why(current: Settings, event_id: str | None, user: tuple[str, str]) -> Why:
    async with pool(current) as connections:
        if event_id is not None:
            return await why_event(connections, event_id)
        return await why_user(connections, user)
