"""`everpost dead replay`, `resume` and `discard`: freeze a selection, look at it, work on it."""

import asyncio
import secrets
from dataclasses import dataclass, field
from typing import Annotated, Literal

from cyclopts import Parameter

from pipeline import settings
from pipeline.adapters.postgres.replays import PostgresReplays
from pipeline.cli.dead.compose import look, operator, ranges, work
from pipeline.cli.dead.filters import Chosen, Filters, InRetry, pairs, selection
from pipeline.cli.dead.report import Progress, tell
from pipeline.model.errors import ConfigurationError
from pipeline.model.replay import Pace, Run, Terms
from pipeline.settings import Settings
from pipeline.stages.replay.edit import check
from pipeline.stages.replay.tools import Told
from pipeline.wiring import clock, pool

AsJson = Annotated[bool, Parameter(help="print one JSON object on the last line")]
Why = Annotated[str, Parameter(help="for the record: what was wrong, and what has changed since")]
DryRun = Annotated[bool, Parameter(name="--dry-run", help="say what would become of each; send nothing")]


def replay(  # noqa: PLR0913 - each is an option of the command
    filters: Chosen = None,
    *,
    retry: InRetry = False,
    dry_run: DryRun = False,
    why: Why = "",
    rate: Annotated[float | None, Parameter(help="letters a second; default: as fast as it can")] = None,
    ramp: Annotated[float, Parameter(help="seconds in which the rate grows from a tenth")] = 0.0,
    canary: Annotated[int, Parameter(help="letters to send first, and to wait for")] = 0,
    patience: Annotated[float, Parameter(help="seconds that the canary's answers may take")] = 60.0,
    stop_at: Annotated[float | None, Parameter(help="percent of failures above which it stops")] = None,
    set: Annotated[tuple[str, ...], Parameter(help="mend each letter: field=value, data.name=value")] = (),
    uncertain: Annotated[bool, Parameter(help="also those that may have gone out")] = False,
    most: Annotated[int, Parameter(help="how often one delivery may be replayed")] = 3,
    as_of_decision: Annotated[
        bool,
        Parameter(
            negative="--as-of-now",
            help="with the words and wishes of the decision, or with today's (default)",
        ),
    ] = False,
    json: AsJson = False,
) -> int:
    """Send dead letters again: what was delivered, replayed, recalled or has expired is left out.

    The selection is frozen when the command starts. Each letter has the identity that it always had, so
    the same letters again send nothing. Whether the user still wants it is asked by the sender, right
    before the request; a dry run asks it too. Ctrl-C pauses. Exit code 1 when the run stopped by itself.

    With --retry it sends what waits for its next attempt now: the retry stage leaves out what the run has
    taken, and the run what has left by itself. With --as-of-decision the pinned version of the words and the
    wishes that the router found count; the user's global switch and the suppression list hold all the same.

    Example: everpost dead replay --tenant demo --channel sms --since 2h --dry-run
    """
    pace = _pace(rate, ramp, canary, patience, stop_at)
    words: Literal["now", "decision"] = "decision" if as_of_decision else "now"
    terms = Terms(edits=pairs("--set", set), uncertain=uncertain, most=most, words=words)
    check(terms.edits)
    return asyncio.run(
        _begin(_Order("replay", filters, why, pace, terms, in_retry=retry), dry=dry_run, json=json)
    )


def discard(
    filters: Chosen = None,
    *,
    retry: InRetry = False,
    dry_run: DryRun = False,
    why: Why = "",
    json: AsJson = False,
) -> int:
    """Decide that dead letters stay dead: no replay takes them any more. They stay in the topic.

    With --retry, that what waits is not sent any more: those deliveries end as recalled.

    Example: everpost dead discard --type offer.weekend --until 7d --why "the weekend is over"
    """
    order = _Order("discard", filters, why, Pace(), Terms(), in_retry=retry)
    return asyncio.run(_begin(order, dry=dry_run, json=json))


def resume(
    run_id: Annotated[str, Parameter(help="of a dry run, or of one that paused, stopped or crashed")],
    /,
    *,
    why: Why = "",
    json: AsJson = False,
) -> int:
    """Work on a run that is frozen: begin it, or go on exactly behind what it has sent.

    A process that still works on it is fenced and ends.
    """
    current = settings.load()
    if not why.strip():
        raise ConfigurationError("--why is empty: say for the record why it goes on")
    return asyncio.run(_resume(current, run_id, why.strip(), json))


@dataclass(frozen=True, slots=True)
class _Order:
    """What the operator has typed."""

    kind: Literal["replay", "discard"]
    filters: Filters | None
    why: str
    pace: Pace
    terms: Terms
    in_retry: bool = field(kw_only=True)


async def _begin(order: _Order, *, dry: bool, json: bool) -> int:
    if not order.why.strip() and not dry:
        raise ConfigurationError("--why is empty: say for the record what was wrong and what has changed")
    current, now = settings.load(), clock()
    chosen = selection(order.filters, now)
    run = Run(
        run_id=f"{now:%Y%m%d-%H%M%S}-{secrets.token_hex(2)}",
        kind=order.kind,
        who=operator(),
        why=order.why.strip() or "dry run",
        at=now,
        ranges=ranges(current.bootstrap_servers, chosen, in_retry=order.in_retry),
        selection=chosen,
        pace=order.pace,
        terms=order.terms,
    )
    async with pool(current) as connections:
        await PostgresReplays(connections).add(run)
    progress = Progress(run)
    if dry:
        told = await look(current, run, progress)
    else:
        told = await work(current, run, run.why, progress)
    tell(run, told, dry=dry, json=json)
    return 0 if dry else _code(told)


async def _resume(current: Settings, run_id: str, why: str, json: bool) -> int:
    async with pool(current) as connections:
        run = (await PostgresReplays(connections).get(run_id)).run
    told = await work(current, run, why, Progress(run))
    tell(run, told, dry=False, json=json)
    return _code(told)


def _code(told: Told) -> int:
    return 1 if told.status in ("stopped", "aborted") else 0


def _pace(rate: float | None, ramp: float, canary: int, patience: float, stop_at: float | None) -> Pace:
    if rate is not None and rate <= 0:
        raise ConfigurationError(f"--rate {rate:g}: give letters a second, above 0")
    if ramp and rate is None:
        raise ConfigurationError("--ramp needs a --rate to grow to")
    if ramp < 0 or canary < 0 or patience <= 0:
        raise ConfigurationError("--ramp and --canary may not be below 0, --patience must be above it")
    if stop_at is not None and not 0 <= stop_at < 100:
        raise ConfigurationError(f"--stop-at {stop_at:g}: give a percentage from 0 to below 100")
    return Pace(rate=rate, ramp=ramp, canary=canary, patience=patience, stop_at=stop_at)
