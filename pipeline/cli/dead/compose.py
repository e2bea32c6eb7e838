"""Puts a run together: frozen ranges, what reads and writes them, and the signals that interrupt it."""

import asyncio
import gc
import getpass
import signal
import time
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from dataclasses import replace

import asyncpg

from pipeline.adapters.kafka.forward import Forwarder, Progress
from pipeline.adapters.kafka.ranges import RangeReader, freeze, not_passed, read_all
from pipeline.adapters.kafka.rewrite import Rewriter
from pipeline.adapters.postgres.profiles import PostgresProfiles
from pipeline.adapters.postgres.recalls import Fresh, PostgresRecalls
from pipeline.adapters.postgres.replays import PostgresReplays
from pipeline.adapters.wire.ids import LockFile
from pipeline.adapters.wire.registry import RegistryIds
from pipeline.adapters.wire.sketch import Sketcher
from pipeline.model.dead import Letter
from pipeline.model.errors import ConfigurationError, DependencyDown
from pipeline.model.ladder import TIERS
from pipeline.model.record import Outgoing
from pipeline.model.replay import Range, Run, Selection
from pipeline.model.topics import DEAD, retry, table
from pipeline.settings import Settings
from pipeline.stages.replay.step import Replay
from pipeline.stages.replay.tools import Told, Tools
from pipeline.stages.retry.step import GROUP as RETRY
from pipeline.wiring import catalogue, clock, pool, wire


def operator() -> str:
    """Who types."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a container without users
        return "unknown"


def sketcher(settings: Settings) -> Sketcher:
    """What reads letters, with ids from the registry when one is configured."""
    if settings.schema_registry_url is None:
        return Sketcher(LockFile())
    return Sketcher(RegistryIds(settings.schema_registry_url, table(settings.partitions)))


def ranges(servers: str, chosen: Selection, *, in_retry: bool) -> tuple[Range, ...]:
    """What is there at this moment: the dead letters, or what has not left the retry tiers.

    Raises DependencyDown, ConfigurationError.
    """
    if not in_retry:
        return freeze(servers, [DEAD], chosen.since)
    tiers = freeze(servers, [retry(tier.name) for tier in TIERS], chosen.since)
    return not_passed(servers, RETRY, tiers)


async def look(settings: Settings, run: Run, tell: Callable[[Told], None]) -> Told:
    """What would become of the run's letters; nothing is sent. Raises DependencyDown."""
    async with pool(settings) as connections:
        with _reader(settings, run, {}) as letters:
            tools = _tools(settings, connections, letters, tell)
            told = await Replay(tools, run, None).run(_told_to_stop())
        await PostgresReplays(connections).save(run.run_id, told.counts)
        return told


async def work(settings: Settings, run: Run, why: str, tell: Callable[[Told], None]) -> Told:
    """Begin the run, or go on where it stopped. Raises DependencyDown; then it can be resumed."""
    # A batch makes 100,000 objects that live as long as it does: the collector would walk them for nothing.
    gc.freeze()
    gc.set_threshold(200_000)
    async with pool(settings) as connections:
        books = PostgresReplays(connections)
        began = await books.move(
            run.run_id, "running", at=clock(), who=operator(), why=why, in_retry=run.in_retry
        )
        if not began:
            raise ConfigurationError(f"run {run.run_id} is {run.status}: start a new one")
        try:
            told = await _work(settings, connections, run, tell)
        except DependencyDown:
            if (await books.get(run.run_id)).run.status != "aborted":
                raise
            told = Told(status="aborted", why="by an operator")
        await books.save(run.run_id, told.counts)
        await books.move(run.run_id, told.status, at=clock(), who=operator(), why=told.why or why)
        return told


async def _work(
    settings: Settings, connections: asyncpg.Pool, run: Run, tell: Callable[[Told], None]
) -> Told:
    forwarder = await asyncio.to_thread(Forwarder.open, settings.bootstrap_servers, run)
    try:
        progress = await asyncio.to_thread(forwarder.progress)
        before = (await PostgresReplays(connections).get(run.run_id)).counts
        if run.status != "frozen" and not progress and any(before.values()):
            raise ConfigurationError(
                f"run {run.run_id} is too old: Kafka has forgotten how far it came. Abort it and start a new one; "
                "what it has sent is not sent again"
            )
        starts = {place: offset for place, (offset, _) in progress.items()}
        if run.in_retry:
            # What has left by itself before the retry stage knew of the run.
            left = await asyncio.to_thread(not_passed, settings.bootstrap_servers, RETRY, run.ranges)
            heads = {(one.topic, one.partition): one.first for one in left}
            for one in run.ranges:
                place = one.topic, one.partition
                starts[place] = max(starts.get(place, 0), heads.get(place, one.end))
        with _reader(settings, run, starts) as letters:
            tools = _tools(settings, connections, letters, tell)
            writer = Rewriter(settings.bootstrap_servers, forwarder)
            return await Replay(tools, run, writer).run(_told_to_stop())
    finally:
        forwarder.close()


async def give_up(settings: Settings, run: Run, why: str) -> None:
    """End a run for good: whoever works on it is fenced, and what it took and did not send is given back."""
    async with pool(settings) as connections:
        books = PostgresReplays(connections)
        if not await books.move(run.run_id, "aborted", at=clock(), who=operator(), why=why):
            raise ConfigurationError(f"run {run.run_id} is {run.status}: there is nothing to abort")
        forwarder = await asyncio.to_thread(Forwarder.open, settings.bootstrap_servers, run)
        try:
            progress = await asyncio.to_thread(forwarder.progress)
            offsets = {
                n: progress.get((one.topic, one.partition), (one.first, {}))[0]
                for n, one in enumerate(run.ranges)
            }
            if run.in_retry:
                taken = await books.taken(run.run_id, offsets)
                await asyncio.to_thread(_wait_again, settings.bootstrap_servers, run, forwarder, taken)
            else:
                await books.release(run.run_id, offsets)
        finally:
            forwarder.close()


def _wait_again(servers: str, run: Run, forwarder: Forwarder, taken: Sequence[tuple[int, int]]) -> None:
    """Put back into their tiers what was taken there and not sent.

    The retry stage may have passed their places, so they get new ones: the claims stay, on the old ones.
    Together with the run's position behind all of them, so that another abort finds none.
    """
    if not taken:
        return
    wanted = {(run.ranges[n].topic, run.ranges[n].partition, offset) for n, offset in taken}
    parts = [
        replace(run.ranges[n], first=min(o for m, o in taken if m == n))
        for n in dict.fromkeys(n for n, _ in taken)
    ]
    records = [_as_it_was(one) for one in read_all(servers, parts) if one[:3] in wanted]
    counts = forwarder.progress()
    ends: Progress = {
        (one.topic, one.partition): (one.end, counts.get((one.topic, one.partition), (0, {}))[1])
        for one in parts
    }
    forwarder.write(records, ends)


def _as_it_was(letter: Letter) -> Outgoing:
    return Outgoing(
        topic=letter.topic,
        key=letter.key,
        value=letter.value,
        headers=tuple(letter.raw_headers),
        partition=letter.partition,
    )


@contextmanager
def _reader(settings: Settings, run: Run, starts: dict[tuple[str, int], int]) -> Generator[RangeReader]:
    reader = RangeReader(settings.bootstrap_servers, run.ranges, starts)
    try:
        yield reader
    finally:
        reader.close()


def _tools(
    settings: Settings, connections: asyncpg.Pool, letters: RangeReader, tell: Callable[[Told], None]
) -> Tools:
    return Tools(
        letters=letters,
        books=PostgresReplays(connections),
        contents=sketcher(settings),
        wire=wire(settings),
        catalogue=catalogue(settings).types,
        recalls=Fresh(PostgresRecalls(connections)).refresh,
        profiles=PostgresProfiles(connections),
        clock=clock,
        timer=time.monotonic,
        tell=tell,
    )


def _told_to_stop() -> asyncio.Event:
    """An event that SIGINT and SIGTERM set: the run pauses behind what it has sent."""
    stop, loop = asyncio.Event(), asyncio.get_running_loop()
    for signum in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(signum, stop.set)
    return stop
