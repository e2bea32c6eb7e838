"""One look over the ledger: the balance, and of everything that stands still where it is.

Kafka and PostgreSQL are asked apart, so the order of the questions matters. What is found standing still
is looked for along its way, each topic after the one before it, and last PostgreSQL is asked again: what
has moved meanwhile is left out. So nothing is called lost that was only between two questions.
"""

import asyncio
import time
from collections.abc import Collection, Mapping, Sequence
from datetime import datetime, timedelta

import asyncpg

from pipeline.adapters.kafka.ends import begin_offsets, offsets_at
from pipeline.adapters.kafka.passed import read_until
from pipeline.adapters.postgres import watch as asked
from pipeline.adapters.postgres.ledger import heads
from pipeline.model import watch
from pipeline.model.event import CHANNELS, LANES
from pipeline.model.ladder import TIERS
from pipeline.model.topics import DECISIONS, HOLDS, OUTCOMES, RELEASED, deliver, events, retry
from pipeline.model.watch import Held, Late, Open, Stop, Stuck, Survey, Waits
from pipeline.model.window import SOURCES
from pipeline.settings import Settings
from pipeline.stages.account.decide import GROUP as ACCOUNT
from pipeline.stages.hold.decide import GROUP as HOLD
from pipeline.stages.retry.step import GROUP as RETRY
from pipeline.stages.route.records import GROUP as ROUTE
from pipeline.stages.send.records import group as sender
from pipeline.wiring import clock, closed_books

NAMED = 1_000  # how many of a kind are named; more would bury the reader
_CATCH_UP = 10.0  # seconds that a reader may take to come to what was there when it was asked
_AGAIN = 0.5  # seconds between two questions
_EVENTS = tuple(events(lane) for lane in LANES)
# Who reads each topic, and which come after which on every way.
_READERS_OF: Sequence[Mapping[str, str]] = (
    {**dict.fromkeys(_EVENTS, ROUTE), HOLDS: HOLD, **{retry(tier.name): RETRY for tier in TIERS}},
    {RELEASED: ROUTE, **{deliver(channel, lane): sender(channel) for channel in CHANNELS for lane in LANES}},
    dict.fromkeys((OUTCOMES, DECISIONS), ACCOUNT),
)
_STAGES = range(len(_READERS_OF))
_STAGE = {topic: stage for stage in _STAGES for topic in _READERS_OF[stage]}
_READERS = {topic: reader for stage in _READERS_OF for topic, reader in stage.items()}


async def survey(
    settings: Settings, connections: asyncpg.Pool, *, hours: timedelta | None = None, limit: int = NAMED
) -> Survey:
    """Look once. `hours`: how far back the balance is told by tenant and hour; None: not at all.

    Raises DependencyDown.
    """
    now = clock()
    before = now - timedelta(seconds=settings.watch_patience)
    ledger = await closed_books(settings, connections)
    late = await _late(settings, connections, before)
    open, unnamed = await asked.open_deliveries(connections, before, limit)
    held = await asked.held_too_long(connections, before, limit)
    rows = await asked.unrelayed(connections, before, limit)
    ways = [one.way for one in (*late, *open, *held)]
    passed = await asyncio.to_thread(_walk, settings.bootstrap_servers, ways)
    # Whoever has moved meanwhile was only between two questions.
    open = await asked.still_open(connections, open) if open else ()
    again = set(await asked.held_too_long(connections, before, limit)) if held else set[Held]()
    behind = set(await _late(settings, connections, before)) if late else set[Late]()
    return Survey(
        ledger=ledger,
        stuck=_stuck(
            rows,
            [one for one in late if one in behind],
            [one for one in held if one in again],
            open,
            passed,
        ),
        unnamed=unnamed,
        hours=() if hours is None else tuple(await asked.by_hour(connections, now - hours)),
    )


async def _late(settings: Settings, connections: asyncpg.Pool, before: datetime) -> Sequence[Late]:
    servers = settings.bootstrap_servers
    cuts = await asyncio.to_thread(offsets_at, servers, SOURCES, before)
    begins = await asyncio.to_thread(begin_offsets, servers, SOURCES)
    return watch.late(await heads(connections, list(cuts)), begins, cuts, before)


def _stuck(
    rows: Sequence[Waits],
    late: Sequence[Late],
    held: Sequence[Held],
    open: Sequence[Open],
    passed: watch.Passed,
) -> tuple[Stuck, ...]:
    unread = [watch.undecided(one, passed) for one in late]
    return (
        *map(watch.unrelayed, rows),
        *(one for one in unread if one.topic != RELEASED or not one.queued),  # these are told of as held
        *(watch.held(one, passed) for one in held),
        *(watch.delivery(one, passed) for one in open),
    )


def _walk(servers: str, ways: Sequence[Sequence[Stop]]) -> watch.Passed:
    """How far the readers have come along these ways; what lies behind a reader that is behind is not asked."""
    read: dict[str, datetime] = {}
    targets: dict[str, datetime] = {}

    def passed(stop: Stop) -> bool:
        return stop.topic in read and read[stop.topic] >= (stop.until or targets[stop.topic])

    for stage in _STAGES:
        going = [way for way in ways if all(passed(stop) for stop in way if _STAGE[stop.topic] < stage)]
        here = {stop for way in going for stop in way if _STAGE[stop.topic] == stage}
        unknown = dict.fromkeys((stop.topic for stop in here if stop.until is None), clock())
        targets |= unknown
        read |= _read(servers, {stop.topic for stop in here}, unknown)
    return passed


def _read(servers: str, topics: Collection[str], targets: Mapping[str, datetime]) -> Mapping[str, datetime]:
    """How far each topic is read; waits a little for those that have a target."""
    deadline = time.monotonic() + _CATCH_UP
    found: dict[str, datetime] = {}
    while True:
        ahead = [
            topic for topic in topics if topic not in found or found[topic] < targets.get(topic, found[topic])
        ]
        by_reader: dict[str, list[str]] = {}
        for topic in ahead:
            by_reader.setdefault(_READERS[topic], []).append(topic)
        for reader, some in by_reader.items():
            found |= read_until(servers, reader, some, clock())
        if all(found[topic] >= target for topic, target in targets.items()) or time.monotonic() > deadline:
            return found
        time.sleep(_AGAIN)
