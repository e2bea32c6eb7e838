"""`everpost dead ls`, `show` and `stats`: what lies in the dead letters, without touching it."""

import asyncio
from collections import deque
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from datetime import datetime, timedelta
from functools import partial
from typing import Annotated, Any

from cyclopts import Parameter
from rich.markup import escape

from pipeline import settings
from pipeline.adapters.kafka.ranges import RangeReader, read_all
from pipeline.adapters.postgres.replays import PostgresReplays
from pipeline.adapters.wire.sketch import Sketcher
from pipeline.cli.dead.compose import ranges, sketcher
from pipeline.cli.dead.filters import Chosen, InRetry, selection
from pipeline.cli.show import answer, say
from pipeline.model.dead import Letter
from pipeline.model.delivery import Delivery
from pipeline.model.errors import ConfigurationError, Unreadable
from pipeline.model.event import Event
from pipeline.model.moment import moment, ms
from pipeline.model.replay import Range, Selection, Sketch, Standing
from pipeline.settings import Settings
from pipeline.stages.replay.decide import claim_of
from pipeline.stages.replay.select import matches, owner
from pipeline.stages.replay.stats import AGES, Matrix
from pipeline.wiring import clock, pool, wire

AsJson = Annotated[bool, Parameter(help="print one JSON object on the last line")]
Found = tuple[Letter, Sketch | None]


def ls(
    filters: Chosen = None,
    *,
    retry: InRetry = False,
    limit: Annotated[int, Parameter(help="how many of the latest")] = 50,
    json: AsJson = False,
) -> int:
    """List dead letters, the latest last, and what operators have done about each."""
    current, now = settings.load(), clock()
    latest = deque(_scan(current, selection(filters, now), in_retry=retry), maxlen=limit)
    standing = asyncio.run(_standing(current, list(latest)))
    rows = [_row(letter, sketch, standing.get(n), now) for n, (letter, sketch) in enumerate(latest)]
    if json:
        answer(rows)
        return 0
    for row in rows:
        done = f"  [yellow]{row['done']}[/]" if row["done"] else ""
        error = f"{row['disposition']} {row['code']} {row['fingerprint']}"
        about = f"{row['tenant']}/{row['user']} {row['type']} {row['channel']}"
        say(
            f"{row['place']:<28} {row['age']:>5}  {escape(about)}  [red]{error}[/]  {row['attempts']} tries{done}"
        )
    say(f"{len(rows):,} letters; everpost dead show PLACE tells all of one")
    return 0


def show(
    place: Annotated[str, Parameter(help="as ls names it: topic/partition/offset")],
    /,
    *,
    json: AsJson = False,
) -> int:
    """Tell everything of one letter: headers, delivery and event, or its bytes when nobody can read them.

    The address itself is left out; `address_id` names it. Exit code 1 when there is no such letter.
    """
    current = settings.load()
    topic, partition, offset = _place(place)
    place_of = Range(topic=topic, partition=partition, first=offset, end=offset + 1)
    reader = RangeReader(current.bootstrap_servers, [place_of], {})
    try:
        found = next((one for one in reader.read(1) if one.offset == offset), None)
    finally:
        reader.close()
    if found is None:
        say(f"there is no letter at {escape(place)}: retention has taken it, or it was never there")
        return 1
    facts = _facts(current, found)
    if json:
        answer(facts)
    else:
        for name, value in facts.items():
            say(f"[bold]{name}[/]")
            inner = value if isinstance(value, dict) else {"": value}
            for key, one in inner.items():
                say(escape(f"  {key:<32}{one}"))
    return 0


def stats(filters: Chosen = None, *, retry: InRetry = False, json: AsJson = False) -> int:
    """Count dead letters by error and age: what to look at first."""
    current, now = settings.load(), clock()
    matrix = Matrix(ms(now))
    for letter, _ in _scan(current, selection(filters, now), in_retry=retry):
        matrix.add(letter)
    rows = matrix.rows()
    if json:
        answer([{**asdict(row), "total": row.total} for row in rows])
        return 0
    say(
        f"[bold]{'fingerprint':<14}{'error':<38}"
        + "".join(f"{name:>10}" for name, _ in AGES)
        + "     total[/]"
    )
    for row in rows:
        error = f"{row.disposition} {row.provider} {row.code}".strip()
        ages = "".join(f"{count:>10,}" for count in row.ages)
        say(f"{row.fingerprint:<14}{error:<38}{ages}{row.total:>10,}")
        say(f"              [dim]{escape(row.message)}[/]")
    return 0


def _scan(current: Settings, chosen: Selection, *, in_retry: bool) -> Iterator[Found]:
    """Everything that is meant, as of now."""
    contents = sketcher(current)
    meant = ranges(current.bootstrap_servers, chosen, in_retry=in_retry)
    for letter in read_all(current.bootstrap_servers, meant):
        sketch = _sketch(contents, letter)
        if matches(chosen, letter, sketch, partial(_data, contents, sketch)):
            yield letter, sketch


def _sketch(contents: Sketcher, letter: Letter) -> Sketch | None:
    try:
        return contents.sketch(letter)
    except Unreadable:
        return None


def _data(contents: Sketcher, sketch: Sketch | None) -> Mapping[str, Any]:
    try:
        return {} if sketch is None else contents.event(sketch).data
    except Unreadable:
        return {}


async def _standing(current: Settings, found: list[Found]) -> Mapping[int, Standing]:
    claims = [claim_of(letter, sketch, 0) for letter, sketch in found]
    if not claims:
        return {}
    async with pool(current) as connections:
        return await PostgresReplays(connections).standing(claims, "")


def _row(letter: Letter, sketch: Sketch | None, standing: Standing | None, now: datetime) -> dict[str, Any]:
    tenant, user = owner(letter, sketch)
    return {
        "place": letter.place,
        "at": moment(letter.at).isoformat(),
        "age": _age(now - moment(letter.at)),
        "tenant": tenant,
        "user": user,
        "type": "" if sketch is None else sketch.type,
        "channel": "" if sketch is None else sketch.channel,
        "event_id": "" if sketch is None else sketch.event_id,
        "disposition": letter.fact("disposition"),
        "provider": letter.fact("provider"),
        "code": letter.fact("provider.code"),
        "fingerprint": letter.fact("fingerprint"),
        "attempts": letter.attempts,
        "replays": letter.replays,
        "done": _done(standing),
    }


def _done(standing: Standing | None) -> str:
    if standing is None:
        return ""
    if standing.delivered:
        return "delivered since"
    if standing.discarded:
        return f"discarded by {standing.claimed_by}"
    return f"replayed by {standing.claimed_by}" if standing.claimed_by else ""


def _age(age: timedelta) -> str:
    seconds = max(0, int(age.total_seconds()))
    for unit, size in (("d", 86_400), ("h", 3_600), ("m", 60)):
        if seconds >= size:
            return f"{seconds // size}{unit}"
    return f"{seconds}s"


def _place(text: str) -> tuple[str, int, int]:
    topic, _, rest = text.rpartition("/")[0].rpartition("/")
    offset = text.rpartition("/")[2]
    if not (topic and rest.isdecimal() and offset.isdecimal()):
        raise ConfigurationError(f"{text!r} is no place: write topic/partition/offset, as ls does")
    return topic, int(rest), int(offset)


def _facts(current: Settings, letter: Letter) -> dict[str, Any]:
    headers = {name: value.decode(errors="replace") for name, value in letter.raw_headers}
    facts: dict[str, Any] = {
        "place": letter.place,
        "first failure": letter.failed("first").isoformat(),
        "last failure": letter.failed("last").isoformat(),
        "headers": headers,
    }
    codec = wire(current)
    try:
        sketch = sketcher(current).sketch(letter)
        if sketch.kind == "delivery":
            delivery = asdict(codec.decode(Delivery, letter.value))
            facts["delivery"] = {name: v for name, v in delivery.items() if name not in ("address", "event")}
        facts["event"] = asdict(codec.decode(Event, sketch.event))
    except Unreadable as error:
        facts |= {"unreadable": str(error), "bytes": letter.value.hex()}
    return facts
