"""The command: reads the slice, the people and the other rules, and tells the difference."""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter
from rich.markup import escape
from rich.table import Table

from pipeline import settings
from pipeline.adapters.files.catalogue import Loaded, categories
from pipeline.adapters.files.toml import read
from pipeline.adapters.kafka.ranges import RangeReader, freeze
from pipeline.adapters.kafka.readback import values
from pipeline.adapters.postgres.profiles import PostgresProfiles
from pipeline.adapters.render.liquid import Liquid
from pipeline.adapters.wire.codec import Wire
from pipeline.cli import wishes
from pipeline.cli.dead.filters import moment
from pipeline.cli.show import answer, out, say
from pipeline.cli.simulate.worlds import Difference, Past, Rules, World, compare
from pipeline.model.catalogue import LONGEST_CAP, Catalogue
from pipeline.model.dead import Letter
from pipeline.model.decision import Decision
from pipeline.model.delivery import Delivery
from pipeline.model.errors import ConfigurationError
from pipeline.model.event import LANES, Event
from pipeline.model.profile import AnyChannel, Profile
from pipeline.model.template import Unrenderable, variables
from pipeline.model.topics import DECISIONS, events
from pipeline.ports import UserKey
from pipeline.settings import Settings
from pipeline.stages.route.facts import Source
from pipeline.wiring import catalogue, clock, pool, wire

_ASKED = 1_000  # users in one query
_READ = 5_000  # records at once
# Verdicts about the record itself, which no rule of the user's or the catalogue's changes.
_ASIDE = frozenset({"duplicate", "rejected", "recalled", "expired"})


@dataclass(frozen=True, slots=True)
class _Slice:
    """A part of the log, in the order of its decisions."""

    before: Sequence[Decision]  # what was sent within the longest cap before it
    pasts: Sequence[Past]
    aside: int  # decisions that are about the record itself
    gone: int  # events that retention has taken


def simulate(
    *,
    since: Annotated[str, Parameter(name="--from", help="decided since then: 2h, 7d ago, or an ISO time")],
    until: Annotated[str | None, Parameter(name="--to", help="decided before then; default: now")] = None,
    rules: Annotated[
        Path | None, Parameter(help="a TOML file: [categories.NAME], [tenant-defaults.T]")
    ] = None,
    template: Annotated[int | None, Parameter(help="this version of the words of --type")] = None,
    type: Annotated[str | None, Parameter(help="the event type that --template is about")] = None,
    tenant: Annotated[str | None, Parameter(help="only events of this tenant")] = None,
    json: Annotated[bool, Parameter(help="print one JSON object on the last line")] = False,
) -> int:
    """Tell who would gain a message, lose one or get it by another channel, if other rules held.

    Decides the events of a part of the log twice, under the present rules and under the others, at the times
    at which they were decided, with the sends of then and the profiles of now. Sends and writes nothing.

    A rules file replaces whole categories, written as in categories.toml, and defaults of a tenant:
    [categories.offers] caps.sms = "1 in 7d"; [tenant-defaults.demo] "offers:sms" = true.

    Example: everpost simulate --from 1d --rules tighter.toml
    """
    current, now = settings.load(), clock()
    begin, end = moment("--from", since, now), moment("--to", until, now) or now
    if begin is None or begin >= end:
        raise ConfigurationError("--from must lie before --to")
    if (rules is None) == (template is None) or (template is None) != (type is None):
        raise ConfigurationError("say what changes: --rules FILE, or --template VERSION with its --type")
    loaded = catalogue(current)
    changed = Rules() if rules is None else _rules(rules, current)
    types = loaded.types if type is None or template is None else _worded(loaded, type, template)
    part = _read(current, begin, end, tenant)
    people = asyncio.run(_people(current, part.pasts))
    words = None if template is None else _Renders(loaded)
    present, other = World(loaded.types, Rules(), words), World(types, changed, words)
    for decision in part.before:
        present.remember(decision)
        other.remember(decision)
    found = compare(part.pasts, people, present, other)
    if json:
        answer({**found.as_json(), "aside": part.aside, "gone": part.gone})
    else:
        _print(found, part)
    return 0


def _rules(path: Path, current: Settings) -> Rules:
    """What the file changes. Raises ConfigurationError."""
    source, known = read(path), wishes.categories(current)
    changed = categories(source.table("categories"))
    if unknown := changed.keys() - known.keys():
        raise ConfigurationError(f"{path}: no category {', '.join(unknown)}: use {', '.join(known)}")
    tenants = source.table("tenant-defaults")
    defaults: dict[str, Mapping[tuple[str, AnyChannel], bool]] = {}
    for tenant in list(tenants.keys()):
        said = tenants.table(tenant)
        names = list(said.keys())
        defaults[tenant] = dict(
            zip(wishes.wishes(names, known), [said.take(name, bool) for name in names], strict=True)
        )
    source.end()
    return Rules(categories=changed, defaults=defaults)


def _worded(loaded: Loaded, type: str, version: int) -> Catalogue:
    """The types, of which one pins another version. Raises ConfigurationError."""
    kind = loaded.types.get(type)
    if kind is None:
        raise ConfigurationError(
            f"--type {type!r} is not in the catalogue: {', '.join(sorted(loaded.types))}"
        )
    locales = tuple(
        locale
        for locale in kind.locales
        if any(loaded.templates.get(type, version, channel, locale) for channel in kind.channels)
    )
    if not locales:
        raise ConfigurationError(
            f"{type} has no version {version} of its words: add v{version} to the catalogue"
        )
    return {**loaded.types, type: replace(kind, template_version=version, locales=locales)}


class _Renders:
    """Whether a version has words for a delivery that its event's data fill."""

    def __init__(self, loaded: Loaded) -> None:
        self._templates = loaded.templates
        self._types = loaded.types
        self._liquid = Liquid()

    def __call__(self, delivery: Delivery, event: Event) -> bool:
        found = self._templates.get(
            delivery.type, delivery.template_version, delivery.channel, delivery.locale
        )
        if found is None:
            return False
        data = variables(event, self._types.get(event.type), delivery.channel)
        return not isinstance(self._liquid.render(found, data), Unrenderable)


def _read(current: Settings, begin: datetime, end: datetime, tenant: str | None) -> _Slice:
    """The slice, in memory. Raises DependencyDown."""
    codec = wire(current)
    before: list[Decision] = []
    meant: dict[tuple[str, int, int], datetime] = {}
    aside = 0
    servers = current.bootstrap_servers
    for value in values(servers, DECISIONS, range(current.partitions), begin - LONGEST_CAP):
        one = codec.decode(Decision, value)
        if tenant not in (None, one.tenant):
            continue
        if one.decided_at < begin:
            before += [one] if one.deliveries else []
        elif one.decided_at < end and not one.release_of:
            if one.verdict in _ASIDE:
                aside += 1
            else:
                meant[one.source_topic, one.source_partition, one.source_offset] = one.decided_at
    pasts = _events(current, meant)
    before.sort(key=lambda decision: decision.decided_at)
    return _Slice(before, sorted(pasts, key=lambda past: past.at), aside, len(meant) - len(pasts))


def _events(current: Settings, meant: Mapping[tuple[str, int, int], datetime]) -> list[Past]:
    """The events at these places that are still there."""
    firsts: dict[tuple[str, int], int] = {}
    for topic, partition, offset in meant:
        place = topic, partition
        firsts[place] = min(offset, firsts.get(place, offset))
    codec, found = wire(current), list[Past]()
    frozen = freeze(current.bootstrap_servers, [events(lane) for lane in LANES], None)
    ranges = [one for one in frozen if (one.topic, one.partition) in firsts]
    reader = RangeReader(current.bootstrap_servers, ranges, firsts)
    try:
        while letters := reader.read(_READ):
            wanted = [one for one in letters if (one.topic, one.partition, one.offset) in meant]
            found += [_past(codec, one, meant[one.topic, one.partition, one.offset]) for one in wanted]
    finally:
        reader.close()
    return found


def _past(codec: Wire, letter: Letter, at: datetime) -> Past:
    source = Source(topic=letter.topic, partition=letter.partition, offset=letter.offset)
    return Past(codec.decode(Event, letter.value), letter.value, source, at)


async def _people(current: Settings, pasts: Sequence[Past]) -> Mapping[UserKey, Profile]:
    """Their profiles. Raises DependencyDown."""
    users = list(dict.fromkeys((past.event.tenant, past.event.user_id) for past in pasts))
    found: dict[UserKey, Profile] = {}
    async with pool(current) as connections:
        profiles = PostgresProfiles(connections)
        for start in range(0, len(users), _ASKED):
            found |= await profiles.fetch(users[start : start + _ASKED])
    return found


def _print(found: Difference, part: _Slice) -> None:
    shown = Table("", "type", "now", "then", "events")
    for (fate, type, before, after), count in found.moves.most_common():
        if fate != "same":
            shown.add_row(fate, escape(type), escape(before), escape(after), f"{count:,}")
    if shown.row_count:
        out.print(shown)
    for fate in ("gain", "lose", "change"):
        if count := found.events[fate]:
            names = ", ".join(map(escape, found.samples[fate]))
            say(f"[bold]{fate}[/] {count:,} events of {len(found.users[fate]):,} users, such as {names}")
    say(f"the same for {found.events['same']:,} events; nothing was sent and nothing written")
    if part.aside or part.gone:
        say(
            f"left out: {part.aside:,} that were duplicate, rejected, recalled or expired, "
            f"{part.gone:,} that the log has no longer"
        )
