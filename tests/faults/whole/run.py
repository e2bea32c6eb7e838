"""The run itself: load, faults, drain, comparison."""

import asyncio
import logging
import random
import shutil
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import orjson
from rich.console import Console

from pipeline.model.errors import DependencyDown
from pipeline.model.ledger import Ledger
from pipeline.wiring import catalogue, close_books, wire
from tests.faults.whole.gather import OUTPUT, gather
from tests.faults.whole.inject import Bench, inject
from tests.faults.whole.load import Load
from tests.faults.whole.report import Report
from tests.faults.whole.schedule import Fault, plan
from tests.faults.whole.stand import Stand, stand
from tests.faults.whole.witness import Witness, seen
from tests.support.topics import read_topic

_log = logging.getLogger(__name__)
_DRAIN = 900.0  # seconds: the ladder's last tiers take 36 and 216 here, and a busy machine has a backlog
_QUIET = 2  # looks in a row that find nothing in flight
_LOOK = 1.0  # seconds
_LEAST = 20.0  # seconds of load without a fault after the last


def run(faults: Sequence[Fault], *, seed: int, rate: float, home: Path, after: float = _LEAST) -> Report:
    """Inject the faults under load, let everything drain, compare the books."""
    began = time.monotonic()
    with_registry = any(fault.kind == "registry outage" for fault in faults)
    with stand(home, with_registry=with_registry) as stood:
        current = stood.settings
        load = Load(
            current.bootstrap_servers,
            current.postgres_dsn.get_secret_value(),
            catalogue(current).types,
            wire(current),
            rate=rate,
            seed=seed,
        )
        bench = Bench(stand=stood, chance=random.Random(seed))
        with Witness(current.bootstrap_servers, OUTPUT, current.partitions) as witness:
            with load:
                done, failure = _injected(bench, faults)
                time.sleep(after)
                load.finish()
            stood.provide()
            ledger = _drained(stood)
            stood.supervisor.stop_stages()  # what is on its way at the limit must not move while it is counted
            time.sleep(_LOOK)  # the witness is a fetch behind
        books = gather(current, list(load.book.values()), frozenset(bench.poison), stood.deaths)
        there = Counter(seen(m) for topic in OUTPUT for m in read_topic(current.bootstrap_servers, topic))
        return Report(
            books=books,
            faults=done,
            failure=failure,
            agrees=witness.seen == there,
            balanced=ledger.balanced and ledger.in_flight == 0,
            broken=stood.broken,
            seconds=time.monotonic() - began,
            seed=seed,
        )


def _injected(bench: Bench, faults: Sequence[Fault]) -> tuple[list[Fault], str | None]:
    """Those that happened, and why there are no more."""
    began, done = time.monotonic(), list[Fault]()
    for fault in faults:
        time.sleep(max(0.0, began + fault.at - time.monotonic()))
        try:
            inject(bench, fault)
        except AssertionError as failure:
            return done, f"{fault.kind} {fault.target}: {failure}"
        done.append(fault)
        _log.info("%6.1f s %3d %s %s", time.monotonic() - began, len(done), fault.kind, fault.target)
    return done, None


def _drained(stood: Stand) -> Ledger:
    """Wait until nothing is in flight, twice in a row, or for five minutes; the last ledger."""
    deadline, quiet = time.monotonic() + _DRAIN, 0
    while True:
        try:
            ledger = asyncio.run(close_books(stood.settings))
        except DependencyDown:
            if time.monotonic() > deadline:
                raise
            time.sleep(_LOOK)
            continue
        quiet = quiet + 1 if ledger.balanced and ledger.in_flight == 0 else 0
        if quiet >= _QUIET or time.monotonic() > deadline:
            return ledger
        time.sleep(_LOOK)


def main(*, minutes: float = 5.0, seed: int | None = None, rate: float = 150.0, json: bool = False) -> int:
    """Break everything, one thing at a time, under load through every door, and compare the books.

    `minutes`: of load and faults; the drain comes on top. `seed`: of the load and of the faults; another one
    each time when not given. `rate`: events a second.
    Exit code 0 when nothing is lost or decided twice, and every repeat is explained.
    """
    seed = random.SystemRandom().randrange(1_000_000) if seed is None else seed
    home = Path(tempfile.mkdtemp(prefix="everpost-faults-"))
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    for noisy in ("everpost.librdkafka", "asyncpg"):  # that somebody is away is no news here
        logging.getLogger(noisy).setLevel(logging.CRITICAL)
    _log.info("seed %d, logs in %s", seed, home)
    faults = plan(minutes * 60 - _LEAST, seed)
    report = run(faults, seed=seed, rate=rate, home=home)
    console = Console()
    report.show(console)
    if report.right:
        shutil.rmtree(home)
    else:
        console.print(f"the logs are in {home}")
    if json:
        sys.stdout.write(orjson.dumps(report.figures()).decode() + "\n")
    return 0 if report.right else 1
