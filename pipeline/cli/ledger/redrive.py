"""`everpost ledger redrive`: what is lost is driven again from the topic that it was last seen on."""

import asyncio
import secrets
from collections.abc import Callable, Collection, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial
from typing import Annotated

from cyclopts import Parameter

from pipeline import settings
from pipeline.adapters.kafka.ranges import freeze, read_all
from pipeline.adapters.postgres.replays import PostgresReplays
from pipeline.cli.dead.compose import look, operator, sketcher, work
from pipeline.cli.dead.report import Progress, tell
from pipeline.cli.show import answer, say
from pipeline.model.errors import ConfigurationError, Unreadable
from pipeline.model.ladder import TIERS
from pipeline.model.replay import Pace, Range, Run, Selection, Terms
from pipeline.model.topics import HOLDS, RELEASED, retry
from pipeline.model.watch import Stuck, Survey
from pipeline.settings import Settings
from pipeline.wiring import clock, pool
from pipeline.wiring.survey import NAMED, survey
from pipeline.wiring.untold import untold

_BEFORE = timedelta(minutes=5)  # a record is written after what it follows from, but two clocks may differ
_UNTOLD = (
    "{count:,} of them ({some}) are not lost: the topics tell what became of them, and the notification log does "
    "not, as after PostgreSQL was restored from an older backup. Let the account stage read again: stop it, set the "
    "offsets of its group everpost.account back to before the backup, start it. Nothing was sent"
)
_TIERS = tuple(retry(tier.name) for tier in TIERS)

Find = Callable[[Collection[str]], Sequence[tuple[str, Range]]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Lost:
    """What is lost."""

    single: tuple[Stuck, ...] = ()  # deliveries and held events
    parts: tuple[Range, ...] = ()  # of the router's topics, that it has passed and that nobody decided

    @property
    def count(self) -> int:
        """How many things it is."""
        return len(self.single) + sum(one.end - one.first for one in self.parts)


def redrive(
    *ids: Annotated[str, Parameter(help="of deliveries or events that are lost, or topic/partition/offset")],
    all: Annotated[bool, Parameter(help="instead: everything that is lost")] = False,
    why: Annotated[str, Parameter(help="for the record: what lost them, and what has changed since")] = "",
    dry_run: Annotated[
        bool, Parameter(name="--dry-run", help="say what would become of each; send nothing")
    ] = False,
    limit: Annotated[
        int, Parameter(help="how many deliveries and how many held events at most, the longest lost first")
    ] = NAMED,
    json: Annotated[bool, Parameter(help="print one JSON object on the last line")] = False,
) -> int:
    """Drive again what is lost: its reader has passed it, and nothing came of it.

    What waits in line moves by itself and is left alone. A delivery goes to its sender under the id and the
    number of the attempt that it had; a held event whose timer is gone is released to the router that held it;
    records that the router has passed and not decided are written to their topic again, bytes as they were.
    Each can be taken once, and the router decides an id once: the same order again sends nothing. What is
    expired or recalled by now goes as well, and ends there as that. It is a run like those over dead letters:
    everpost dead runs tells who and why, everpost dead resume goes on after a crash.

    An id is a delivery's, an event's, or a place as everpost ledger --stuck names it: topic/partition/offset,
    which stands for the records after it too that are lost with it.

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
        found = lost(await survey(current, connections, limit=limit))
        meant = chosen(found, ids, partial(_events, current, found.parts)) if ids else released_first(found)
        if not meant.count:
            _ = answer({"status": "done", "sent": 0, "counts": {}}) if json else say("Nothing is lost.")
            return 0
        if moved := await untold(current, connections, meant.single, meant.parts):
            raise ConfigurationError(_UNTOLD.format(count=len(moved), some=", ".join(sorted(moved)[:3])))
        run = _run(meant, why, _ranges(current.bootstrap_servers, meant))
        await PostgresReplays(connections).add(run)
    progress = Progress(run)
    told = await look(current, run, progress) if dry else await work(current, run, why, progress)
    gone = meant.count - sum(told.counts.values())
    if told.status == "done" and gone > 0:
        say(f"[yellow]{gone:,} are not there any more[/]: their topics keep records for a week or two")
    tell(run, told, dry=dry, json=json)
    return 1 if told.status in ("stopped", "aborted") else 0


def lost(found: Survey) -> Lost:
    """Everything that the survey calls lost; what later records have overtaken is a hole in the ledger."""
    late = [one for one in found.lost if one.kind == "undecided"]
    holes = found.ledger.holes
    return Lost(
        single=tuple(one for one in found.lost if one.kind in ("delivery", "held")),
        parts=(
            *(Range(topic=h.topic, partition=h.partition, first=h.first, end=h.last + 1) for h in holes),
            *(_part(one.subject, one.records) for one in late),
        ),
    )


def _part(place: str, records: int) -> Range:
    topic, partition, first = place.rsplit("/", 2)
    return Range(topic=topic, partition=int(partition), first=int(first), end=int(first) + records)


def chosen(found: Lost, ids: Collection[str], find: Find) -> Lost:
    """What is lost and asked for; `find` tells where in the parts the events of these ids are.

    Raises ConfigurationError for an id of which nothing is lost.
    """
    parts = [one for one in found.parts if one.place in ids]
    known = {name for one in found.single for name in (one.subject, one.event_id)}
    if unknown := set(ids) - known - {one.place for one in parts}:
        events = find(unknown)
        parts += [place for _, place in events if not any(one.has(*place.start) for one in parts)]
        unknown -= {event_id for event_id, _ in events}
    if unknown:
        raise ConfigurationError(
            f"nothing that is lost is named {', '.join(sorted(unknown))}: everpost ledger --stuck names it, "
            "and what waits in line there moves by itself"
        )
    single = [one for one in found.single if one.subject in ids or one.event_id in ids]
    return Lost(single=tuple(single), parts=tuple(parts))


def _events(current: Settings, parts: Sequence[Range], ids: Collection[str]) -> list[tuple[str, Range]]:
    """Where in the parts the events of these ids are. Raises DependencyDown."""
    contents, found = sketcher(current), list[tuple[str, Range]]()
    for letter in read_all(current.bootstrap_servers, tuple(spans(parts))):
        if not any(part.has(*letter[:3]) for part in parts):
            continue
        with suppress(Unreadable):
            if (event_id := contents.sketch(letter).event_id) in ids:
                topic, partition, first = letter[:3]
                found.append((event_id, Range(topic=topic, partition=partition, first=first, end=first + 1)))
    return found


def released_first(found: Lost) -> Lost:
    """All but the held events whose release may be among what the router has passed: that release counts."""
    numbers = {one.partition for one in found.parts if one.topic == RELEASED}
    single = [one for one in found.single if one.kind != "held" or _partition(one) not in numbers]
    if left := len(found.single) - len(single):
        say(f"[yellow]{left:,} held events wait[/] for their releases to be decided; order again then")
    return Lost(single=tuple(single), parts=found.parts)


def _partition(held: Stuck) -> int:
    return int(held.subject.rsplit("/", 2)[1])


def _ranges(servers: str, meant: Lost) -> tuple[Range, ...]:
    """Where it is, one range a partition. Raises DependencyDown."""
    since: dict[str, datetime] = {}
    for one in meant.single:
        # The last tier sends round again what has to wait for longer.
        for topic in _TIERS if one.topic in _TIERS else (one.topic,):
            since[topic] = min(since.get(topic, one.written), one.written)
    numbers = {_partition(one) for one in meant.single if one.kind == "held"}
    frozen = [one for topic, at in since.items() for one in freeze(servers, [topic], at - _BEFORE)]
    return (
        *(one for one in frozen if one.topic != HOLDS or one.partition in numbers),
        *spans(meant.parts),
    )


def spans(parts: Iterable[Range]) -> Iterable[Range]:
    """From the first to the last of each partition."""
    spans: dict[tuple[str, int], Range] = {}
    for one in parts:
        place = one.topic, one.partition
        other = spans.get(place, one)
        first, end = min(one.first, other.first), max(one.end, other.end)
        spans[place] = Range(topic=one.topic, partition=one.partition, first=first, end=end)
    return spans.values()


def _run(meant: Lost, why: str, ranges: tuple[Range, ...]) -> Run:
    """A run over just these."""
    now = clock()
    return Run(
        run_id=f"{now:%Y%m%d-%H%M%S}-{secrets.token_hex(2)}",
        kind="replay",
        who=operator(),
        why=why,
        at=now,
        ranges=ranges,
        selection=Selection(named=frozenset(one.subject for one in meant.single), parts=meant.parts),
        pace=Pace(),
        terms=Terms(over=True, uncertain=True, words="decision"),
    )
