"""`everpost ledger`: the balance, what stands still, and the same by tenant and hour."""

import asyncio
from collections.abc import Iterator, Mapping, Sequence
from datetime import timedelta
from typing import Annotated

from cyclopts import Parameter
from rich.markup import escape

from pipeline import settings
from pipeline.cli.show import answer, say
from pipeline.model.errors import ConfigurationError, DependencyDown
from pipeline.model.ledger import Ledger
from pipeline.model.watch import Hour, Survey
from pipeline.settings import Settings
from pipeline.wiring import clock, close_books, pool
from pipeline.wiring.survey import NAMED, survey

_DAY = 24.0  # hours
_EVERY = 5.0  # seconds


def show(
    *,
    stuck: Annotated[
        bool, Parameter(help="also name what has neither ended nor moved for too long, and where it is")
    ] = False,
    by_hour: Annotated[bool, Parameter(help="also the balance by tenant and hour")] = False,
    hours: Annotated[float, Parameter(help="how far back --by-hour looks")] = _DAY,
    limit: Annotated[int, Parameter(help="how many of each kind --stuck names")] = NAMED,
    watch: Annotated[
        bool, Parameter(help="look again and again, and tell what changes, until Ctrl-C")
    ] = False,
    every: Annotated[float, Parameter(help="seconds between two looks of --watch")] = _EVERY,
    json: Annotated[bool, Parameter(help="print one JSON object on the last line")] = False,
) -> int:
    """Account for every accepted event: accepted = final + in flight, and what is missing is named.

    Exit code 0 when it balances, 1 when something is missing; with --stuck or --by-hour also when something
    is lost: its reader has passed it and nothing came of it. EVERPOST_WATCH_PATIENCE is how long a thing may
    stand still beyond its time. The account stage watches all the time, logs what it finds (ledger.stuck) and
    measures it (everpost.ledger.*).

    Example: everpost ledger --stuck
    """
    if hours <= 0 or limit < 1 or every <= 0:
        raise ConfigurationError("--hours, --limit and --every must be above 0")
    current = settings.load()
    back = timedelta(hours=hours) if by_hour or watch else None
    if watch:
        asyncio.run(_watch(current, back, limit, every, json=json))
        return 0
    if not (stuck or by_hour):
        return _balance(asyncio.run(close_books(current)), json=json)
    found = asyncio.run(_look(current, back, limit))
    if json:
        answer(found.as_json())
    else:
        _print(found, stuck=stuck)
    return 0 if found.sound else 1


def _balance(found: Ledger, *, json: bool) -> int:
    if json:
        answer(found.as_json())
    else:
        for line in lines(found):
            say(line)
    return 0 if found.balanced else 1


async def _look(current: Settings, back: timedelta | None, limit: int) -> Survey:
    async with pool(current) as connections:
        return await survey(current, connections, hours=back, limit=limit)


async def _watch(current: Settings, back: timedelta | None, limit: int, every: float, *, json: bool) -> None:
    """One line a look for programs; for people one when something is new or settled, and the figures."""
    before: Mapping[str, str] = {}
    async with pool(current) as connections:
        while True:
            try:
                found = await survey(current, connections, hours=back, limit=limit)
                _tell(before, found, json=json)
                before = found.told
            except DependencyDown as error:
                say(f"[yellow]{escape(str(error))}[/]")
            await asyncio.sleep(every)


def _tell(before: Mapping[str, str], found: Survey, *, json: bool) -> None:
    if json:
        answer(found.as_json())
        return
    for line in _changes(before, found):
        say(line)


def _changes(before: Mapping[str, str], found: Survey) -> Iterator[str]:
    told, ledger = found.told, found.ledger
    for name in told.keys() - before.keys():
        yield f"[bold red]stuck[/] {escape(told[name])}"
    for name in before.keys() - told.keys():
        yield f"[green]settled[/] {escape(name)}"
    yield (
        f"{clock():%H:%M:%S} accepted {ledger.accepted:,} = final {ledger.final:,} + in flight "
        f"{ledger.in_flight:,}" + ("" if ledger.balanced else "  [bold red]does not balance[/]")
    )


def _print(found: Survey, *, stuck: bool) -> None:
    for line in (*_hours(found.hours), *lines(found.ledger)):
        say(line)
    if stuck:
        for one in found.stuck:
            say(f"[{'yellow' if one.queued else 'bold red'}]stuck[/] {escape(str(one))}")
        if found.unnamed:
            say(f"[yellow]stuck[/] and {found.unnamed:,} more deliveries: see --limit")
        if not found.stuck:
            say("[green]nothing is stuck[/]")
        if found.lost or found.ledger.holes:
            say("What is lost can be sent again: everpost ledger redrive ID... --why ...")


def _hours(hours: Sequence[Hour]) -> Iterator[str]:
    if not hours:
        return
    yield f"{'hour':<17}{'tenant':<20}{'accepted':>12}{'final':>12}{'in flight':>12}{'missing':>12}"
    for one in hours:
        missing = f"[bold red]{one.missing:>12,}[/]" if one.missing else f"{0:>12}"
        tenant = escape(one.tenant or "-")  # of what nobody could read
        yield (
            f"{one.hour:%Y-%m-%d %H:%M} {tenant:<20}{one.accepted:>12,}{one.final:>12,}{one.in_flight:>12,}"
            f"{missing}"
        )


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
