"""`python -m tests.faults router`: real routers under load and faults, and what came of every event.

The table tells for each kind of fault how often it happened, how many events were decided meanwhile, how
many of those published since were lost or decided twice, and how long it took until every partition
decided again.
"""

import asyncio
import logging
import random
import shutil
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import asyncpg
import orjson
from rich.console import Console

from pipeline.adapters.kafka.admin import apply
from pipeline.adapters.postgres.migrate import migrate
from pipeline.adapters.postgres.profiles import save_profiles
from pipeline.adapters.wire.codec import Wire
from pipeline.adapters.wire.ids import LockFile
from pipeline.model.delivery import Delivery
from pipeline.model.event import CHANNELS, LANES
from pipeline.model.topics import DECISIONS, deliver, table
from tests.faults.books import Books, Delivered
from tests.faults.inject import Bench, Result, inject
from tests.faults.load import TENANT, Load, profiles
from tests.faults.report import Report
from tests.faults.schedule import Fault, plan
from tests.faults.stand import PARTITIONS, stand
from tests.faults.watch import decided, decisions
from tests.support.topics import read_tenant

_log = logging.getLogger(__name__)
_WIRE = Wire(LockFile())
_FIRST = 60.0  # seconds for the first decisions
_PATIENCE = 60.0  # seconds without any decision, after which what is not decided counts as lost


def run(faults: Sequence[Fault], *, seed: int, rate: int, home: Path) -> Report:
    """Inject the faults under load, wait until all is decided, compare the books."""
    began = time.monotonic()
    with stand(home, _prepare) as running:
        load = Load(running.servers, rate=rate, seed=seed)
        watch = decisions(running.servers, partitions=PARTITIONS, first_at=load.first_at)
        with load, watch:
            watch.serving(time.monotonic(), _FIRST)
            results, failure = _injected(Bench(stand=running, watch=watch), faults, random.Random(seed))
            load.finish()
            watch.reach(len(load.book), _PATIENCE)
        books = _books(running.servers, load)
        return Report(
            books=books,
            results=results,
            witness_agrees=Counter(watch.seen) == Counter(books.decided),
            ends=running.routers.ends,
            seconds=time.monotonic() - began,
            seed=seed,
            failure=failure,
        )


def _injected(
    bench: Bench, faults: Sequence[Fault], pauses: random.Random
) -> tuple[list[Result], str | None]:
    """What they cost, and why there are no more: a fault that did not happen, or that did not pass."""
    results: list[Result] = []
    for fault in faults:
        before = len(bench.watch.seen)
        try:
            result = inject(bench, fault)
        except AssertionError as failure:
            return results, f"{fault.name}: {failure}"
        results.append(replace(result, decided=len(bench.watch.seen) - before))
        _log.info("%3d  %-20s %6.2f s", len(results), fault.name, result.seconds)
        time.sleep(pauses.uniform(0.1, 0.5))  # some ordinary work between two faults
    return results, None


def _prepare(servers: str, dsn: str) -> None:
    apply(servers, table(PARTITIONS), 1)
    asyncio.run(_fill(dsn))


async def _fill(dsn: str) -> None:
    connection = await asyncpg.connect(dsn, timeout=10)
    await migrate(connection)
    await save_profiles(connection, list(profiles()))
    await connection.close(timeout=10)


def _books(servers: str, load: Load) -> Books:
    """What was published, and what is found when everything is read again from the beginning."""
    return Books(
        published=load.book,
        decided=[decided(message.value()) for message in read_tenant(servers, DECISIONS, TENANT)],
        delivered=[
            _delivered(message.value())
            for channel in CHANNELS
            for lane in LANES
            for message in read_tenant(servers, deliver(channel, lane), TENANT)
        ],
    )


def _delivered(value: bytes | None) -> Delivered:
    found = _WIRE.decode(Delivery, value)
    return Delivered(delivery_id=found.delivery_id, event_id=found.event_id, channel=found.channel)


def main(*, faults: int = 64, seed: int | None = None, rate: int = 120, json: bool = False) -> int:
    """Inject faults into routers under load, and prove that each event was decided once.

    `faults`: at least so many. `seed`: of the load and of the order of the faults; another one each time
    when not given. `rate`: events a second.
    Exit code 0 when nothing is lost, and nothing decided or delivered twice.
    """
    seed = random.SystemRandom().randrange(1_000_000) if seed is None else seed
    home = Path(tempfile.mkdtemp(prefix="everpost-faults-"))
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    _log.info("seed %d, logs in %s", seed, home)
    report = run(plan(faults, seed), seed=seed, rate=rate, home=home)
    console = Console()
    report.show(console)
    if report.right and not report.crashes:
        shutil.rmtree(home)
    else:
        console.print(f"the logs are in {home}")
    if json:
        sys.stdout.write(orjson.dumps(report.figures()).decode() + "\n")
    return 0 if report.right and len(report.results) >= faults else 1
