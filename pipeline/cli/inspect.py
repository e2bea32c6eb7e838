"""`everpost ledger` and `everpost why`: is anything missing, and what became of this one."""

import asyncio
from typing import Annotated

from cyclopts import Parameter

from pipeline import settings
from pipeline.adapters.postgres.why import why_event, why_user
from pipeline.cli.show import answer, say
from pipeline.model.errors import ConfigurationError
from pipeline.model.ledger import Ledger
from pipeline.model.timeline import Why, explain
from pipeline.settings import Settings
from pipeline.wiring import close_books, pool

AsJson = Annotated[bool, Parameter(help="print one JSON object on the last line")]


def ledger(*, json: AsJson = False) -> int:
    """Account for every accepted event: accepted = final + in flight, and what is missing is named.

    Exit code 0 when it balances, 1 when something is missing.
    """
    found = asyncio.run(close_books(settings.load()))
    if json:
        answer(found.as_json())
    else:
        for line in lines(found):
            say(line)
    return 0 if found.balanced else 1


def lines(found: Ledger) -> list[str]:
    """The balance in sentences, the missing last."""

    def counts(title: str, by: dict[str, int]) -> str:
        inside = ", ".join(f"{name} {count:,}" for name, count in sorted(by.items()))
        return f"{title:<12}{sum(by.values()):>10,}" + (f"   ({inside})" if inside else "")

    where = f"(outbox {found.outbox_waiting:,}, undecided {found.undecided:,}, held {found.held:,})"
    return [
        f"{'accepted':<12}{found.accepted:>10,}   events",
        f"{'final':<12}{found.final:>10,}",
        f"{'in flight':<12}{found.in_flight:>10,}   {where}",
        counts("delivered", dict(found.delivered)),
        counts("suppressed", dict(found.suppressed)),
        counts("rejected", dict(found.rejected)),
        f"{'duplicate':<12}{found.duplicates:>10,}",
        f"{'expired':<12}{found.expired:>10,}",
        f"{'recalled':<12}{found.recalled:>10,}",
        counts("dead", dict(found.dead)),
        *(
            f"[yellow]recalled[/] recall {w.recall_id} of {w.at.isoformat()} ends {w.events:,} of the held "
            "events when they are due"
            for w in found.withdrawn
        ),
        *(
            f"[yellow]parked[/] outbox row {p.outbox_id} of event {p.event_id}: {p.error}"
            for p in found.parked
        ),
        *(f"[bold red]missing[/] {name}" for name in found.missing),
        "[green]ledger balanced[/]" if found.balanced else "[bold red]ledger does not balance[/]",
    ]


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
