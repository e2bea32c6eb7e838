"""`everpost ledger redrive`: deliveries that are lost are driven again from the topic they were last seen on."""

import asyncio
import secrets
from collections.abc import Sequence
from datetime import timedelta
from typing import Annotated

from cyclopts import Parameter

from pipeline import settings
from pipeline.adapters.kafka.ranges import freeze
from pipeline.adapters.postgres.replays import PostgresReplays
from pipeline.cli.dead.compose import look, operator, work
from pipeline.cli.dead.report import Progress, tell
from pipeline.cli.show import answer, say
from pipeline.model.errors import ConfigurationError
from pipeline.model.ladder import TIERS
from pipeline.model.replay import Pace, Run, Selection, Terms
from pipeline.model.topics import retry
from pipeline.model.watch import Stuck
from pipeline.settings import Settings
from pipeline.wiring import clock, pool
from pipeline.wiring.survey import NAMED, survey

_BEFORE = timedelta(hours=25)  # a record is written at most a Retry-After of 24 h before it should have moved


def redrive(
    *ids: Annotated[str, Parameter(help="of lost deliveries, or of their events")],
    all: Annotated[bool, Parameter(help="instead: every delivery that is lost")] = False,
    why: Annotated[str, Parameter(help="for the record: what lost them, and what has changed since")] = "",
    dry_run: Annotated[
        bool, Parameter(name="--dry-run", help="say what would become of each; send nothing")
    ] = False,
    limit: Annotated[int, Parameter(help="how many at most, those that stand for longest first")] = NAMED,
    json: Annotated[bool, Parameter(help="print one JSON object on the last line")] = False,
) -> int:
    """Drive lost deliveries again: those whose reader has passed them, and of which nothing came.

    What waits in line moves by itself and is left alone. Each goes to its sender under the id and the number
    of the attempt that it had, and can be taken once: the same order again sends nothing. What is expired or
    recalled by now goes as well, and ends there as that. It is a run like those over dead letters: everpost
    dead runs tells who and why, everpost dead resume goes on after a crash.

    Example: everpost ledger redrive --all --dry-run
    """
    if bool(ids) == all:
        raise ConfigurationError("say which: either ids (everpost ledger --stuck names them), or --all")
    if not why.strip() and not dry_run:
        raise ConfigurationError("--why is empty: say for the record what lost them and what has changed")
    if limit < 1:
        raise ConfigurationError("--limit must be above 0")
    return asyncio.run(
        _redrive(settings.load(), ids, why.strip() or "dry run", limit, dry=dry_run, json=json)
    )


async def _redrive(
    current: Settings, ids: Sequence[str], why: str, limit: int, *, dry: bool, json: bool
) -> int:
    async with pool(current) as connections:
        found = await survey(current, connections, limit=limit)
        meant = _meant(found.lost, ids)
        if not meant:
            _ = answer({"status": "done", "sent": 0, "counts": {}}) if json else say("No delivery is lost.")
            return 0
        run = _run(current, meant, why)
        await PostgresReplays(connections).add(run)
    progress = Progress(run)
    told = await look(current, run, progress) if dry else await work(current, run, why, progress)
    tell(run, told, dry=dry, json=json)
    return 1 if told.status in ("stopped", "aborted") else 0


def _meant(lost: Sequence[Stuck], ids: Sequence[str]) -> Sequence[Stuck]:
    """The deliveries that are lost and asked for. Raises ConfigurationError for an id of which none is lost."""
    deliveries = [one for one in lost if one.kind == "delivery"]
    known = {name for one in deliveries for name in (one.subject, one.event_id)}
    if unknown := [id for id in ids if id not in known]:
        raise ConfigurationError(
            f"no lost delivery is named {', '.join(unknown)}: everpost ledger --stuck names them, "
            "and what waits in line there moves by itself"
        )
    return [one for one in deliveries if not ids or one.subject in ids or one.event_id in ids]


def _run(current: Settings, meant: Sequence[Stuck], why: str) -> Run:
    """A run over just these, on the topics that they were last seen on. Raises DependencyDown."""
    tiers = {retry(tier.name) for tier in TIERS}
    topics = {one.topic for one in meant}
    if topics & tiers:
        topics |= tiers  # the last tier sends round again what has to wait for longer
    now = clock()
    since = min(one.since for one in meant) - _BEFORE
    return Run(
        run_id=f"{now:%Y%m%d-%H%M%S}-{secrets.token_hex(2)}",
        kind="replay",
        who=operator(),
        why=why,
        at=now,
        ranges=freeze(current.bootstrap_servers, sorted(topics), since),
        selection=Selection(deliveries=tuple(one.subject for one in meant)),
        pace=Pace(),
        terms=Terms(over=True, uncertain=True, words="decision"),
    )
