"""`everpost dead runs`, `pause` and `abort`: the record of every run, and orders to one that works."""

import asyncio
from dataclasses import asdict
from typing import Annotated, Any

from cyclopts import Parameter
from rich.markup import escape

from pipeline import settings
from pipeline.adapters.postgres.replays import Action, Entry, PostgresReplays
from pipeline.cli.dead.compose import give_up, operator
from pipeline.cli.show import answer, say
from pipeline.model.errors import ConfigurationError
from pipeline.settings import Settings
from pipeline.wiring import clock, pool

RunId = Annotated[str, Parameter(help="the run's id")]
AsJson = Annotated[bool, Parameter(help="print one JSON object on the last line")]
Why = Annotated[str, Parameter(help="for the record")]


def pause(run_id: RunId, /, *, why: Why) -> int:
    """Let a run pause within a second; `everpost dead resume` goes on."""
    asyncio.run(_pause(settings.load(), run_id, why))
    say(f"run {escape(run_id)} pauses")
    return 0


def abort(run_id: RunId, /, *, why: Why) -> int:
    """End a run for good. What it has sent stays sent; the rest can be replayed by another run."""
    current = settings.load()

    async def end() -> None:
        async with pool(current) as connections:
            run = (await PostgresReplays(connections).get(run_id)).run
        await give_up(current, run, why)

    asyncio.run(end())
    say(f"run {escape(run_id)} is aborted")
    return 0


def runs(
    run_id: Annotated[str | None, Parameter(help="one run: all that is known of it")] = None,
    /,
    *,
    limit: Annotated[int, Parameter(help="how many of the latest")] = 20,
    json: AsJson = False,
) -> int:
    """List the latest runs, or tell all of one: who, why, what was done to it, what became of its letters."""
    current = settings.load()
    if run_id is None:
        found = asyncio.run(_latest(current, limit))
        if json:
            answer([_plain(one) for one in found])
        for one in () if json else found:
            say(_line(one))
        return 0
    entry, actions, results = asyncio.run(_one(current, run_id))
    if json:
        answer({**_plain(entry), "actions": [asdict(one) for one in actions], "results": results})
        return 0
    say(_line(entry))
    for action in actions:
        say(f"  {action.at:%Y-%m-%d %H:%M:%S} {action.status:<9}{escape(f'{action.who}: {action.why}')}")
    for state, count in sorted(results.items()):
        say(f"{count:>10,}  {state}")
    return 0


async def _pause(current: Settings, run_id: str, why: str) -> None:
    async with pool(current) as connections:
        books = PostgresReplays(connections)
        run = (await books.get(run_id)).run
        if not await books.move(run_id, "pausing", at=clock(), who=operator(), why=why):
            raise ConfigurationError(f"run {run_id} is {run.status}: it does not run")


async def _latest(current: Settings, limit: int) -> list[Entry]:
    async with pool(current) as connections:
        return list(await PostgresReplays(connections).latest(limit))


async def _one(current: Settings, run_id: str) -> tuple[Entry, list[Action], dict[str, int]]:
    async with pool(current) as connections:
        books = PostgresReplays(connections)
        entry = await books.get(run_id)
        return entry, list(await books.actions(run_id)), dict(await books.results(run_id))


def _line(entry: Entry) -> str:
    run = entry.run
    counts = ", ".join(f"{fate} {count:,}" for fate, count in sorted(entry.counts.items()) if count)
    return f"{run.run_id}  {run.kind:<8}{run.status:<9}{escape(f'{run.who}: {run.why}')}  {counts}"


def _plain(entry: Entry) -> dict[str, Any]:
    return {**asdict(entry.run), "counts": dict(entry.counts)}
