"""What the topics tell of lost things, and the notification log does not know.

After PostgreSQL was restored from an older backup, all that has ended since that backup looks lost: its
readers have passed it, and the log has no word of it. Driven again, it would be sent a second time. So
the decisions and outcomes that came after are read from the topics before anything is called lost for good.
"""

import asyncio
from collections.abc import Collection, Sequence
from datetime import datetime, timedelta

import asyncpg

from pipeline.adapters.kafka.ranges import freeze, read_all
from pipeline.adapters.postgres.watch import attempts
from pipeline.model.decision import Decision
from pipeline.model.errors import Unreadable
from pipeline.model.moment import moment
from pipeline.model.outcome import Outcome
from pipeline.model.replay import Range
from pipeline.model.topics import DECISIONS, OUTCOMES
from pipeline.model.watch import Stuck
from pipeline.ports import Codec
from pipeline.settings import Settings
from pipeline.wiring import wire

_BEFORE = timedelta(minutes=5)  # by how much the clocks of two machines may differ


async def untold(
    settings: Settings, connections: asyncpg.Pool, single: Sequence[Stuck], parts: Sequence[Range]
) -> frozenset[str]:
    """Of these deliveries, held events and parts of the router's topics those that have moved on after all.

    By subject, or by the place of the part. It reads what was written since the first of them: a minute
    for some millions of records. Raises DependencyDown.
    """
    servers, codec = settings.bootstrap_servers, wire(settings)
    deliveries = {one.subject: one for one in single if one.kind == "delivery"}
    held = {one.subject: one for one in single if one.kind == "held"}
    ended = await asyncio.to_thread(_decided, servers, codec, held, parts)
    if deliveries:
        since = min(one.written for one in deliveries.values())
        seen = await asyncio.to_thread(_tried, servers, codec, deliveries.keys(), since)
        ended |= {id for id, _ in seen - await attempts(connections, list(deliveries))}
    return frozenset(ended)


def _decided(servers: str, codec: Codec, held: dict[str, Stuck], parts: Sequence[Range]) -> set[str]:
    """Held events of which a release is decided, and parts of which any record is."""
    times = [*(one.written for one in held.values()), *_written(servers, parts)]
    if not times:
        return set()
    numbers = {one.partition for one in parts} | {int(place.rsplit("/", 2)[1]) for place in held}
    ranges = [one for one in freeze(servers, [DECISIONS], min(times) - _BEFORE) if one.partition in numbers]
    found = set[str]()
    by_partition: dict[tuple[str, int], list[Range]] = {}
    for part in parts:
        by_partition.setdefault((part.topic, part.partition), []).append(part)
    for letter in read_all(servers, ranges):
        try:
            decision = codec.decode(Decision, letter.value)
        except Unreadable:
            continue
        place = decision.source_topic, decision.source_partition, decision.source_offset
        found.update(part.place for part in by_partition.get(place[:2], ()) if part.has(*place))
        if decision.release_of in held:
            found.add(decision.release_of)
    return found


def _written(servers: str, parts: Sequence[Range]) -> list[datetime]:
    """When the first record of each partition's parts was, where it is still there."""
    if not parts:
        return []
    lows = {
        (one.topic, one.partition): one.first
        for one in freeze(servers, sorted({part.topic for part in parts}), None)
    }
    firsts: dict[tuple[str, int], int] = {}
    for part in parts:
        place = part.topic, part.partition
        if (first := max(part.first, lows.get(place, part.end))) < part.end:
            firsts[place] = min(first, firsts.get(place, first))
    ranges = [Range(topic=t, partition=p, first=first, end=first + 1) for (t, p), first in firsts.items()]
    return [moment(letter.at) for letter in read_all(servers, ranges)]


def _tried(servers: str, codec: Codec, ids: Collection[str], since: datetime) -> set[tuple[str, int]]:
    """The attempts of these deliveries that have an outcome."""
    found = set[tuple[str, int]]()
    for letter in read_all(servers, freeze(servers, [OUTCOMES], since - _BEFORE)):
        try:
            outcome = codec.decode(Outcome, letter.value)
        except Unreadable:
            continue
        if outcome.delivery_id in ids:
            found.add((outcome.delivery_id, outcome.attempt))
    return found
