"""`python -m tests.faults senders`: real senders under load and faults, and what came of every delivery.

The table tells for each kind of fault how often it happened and how long it took until every partition was
served again. `repeats` are devices that were reached again because their delivery was in flight when its
sender was killed or put to sleep; `uncertain_repeats` those that were reached again, under the same identity,
because the provider's first answer was missing.
"""

import asyncio
import logging
import random
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path

import asyncpg
import orjson
from rich.console import Console
from rich.table import Table

from infra.embedded.supervisor import meaning
from pipeline.adapters.kafka.admin import apply
from pipeline.adapters.postgres.migrate import migrate
from pipeline.adapters.postgres.profiles import save_profiles
from pipeline.adapters.wire.codec import Wire
from pipeline.adapters.wire.ids import LockFile
from pipeline.model.event import Channel
from pipeline.model.outcome import FINAL, Outcome
from pipeline.model.topics import OUTCOMES, table
from tests.faults.sender_books import Books
from tests.faults.sender_inject import Bench, Result, inject
from tests.faults.sender_load import Load, profiles
from tests.faults.sender_schedule import CHANNELS, Fault, plan
from tests.faults.sender_stand import Stand, stand
from tests.faults.stand import PARTITIONS, Ground
from tests.faults.watch import Sighting, Watch
from tests.support.topics import read_topic

_log = logging.getLogger(__name__)
_WIRE = Wire(LockFile())
_FIRST = 60.0  # seconds for the first outcomes
_PATIENCE = 60.0  # seconds without any outcome, after which what has none counts as lost
_SHOWN = 5  # of what is wrong
_HANDLED = frozenset({0, 75, -9})  # exit codes: told to end, try again, killed


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """One run."""

    books: Books
    results: Sequence[Result]
    ends: Mapping[int, int]  # of sender processes, by exit code
    seconds: float
    seed: int
    failure: str | None  # why no more faults were injected before all were

    @property
    def wrong(self) -> dict[str, Sequence[str]]:
        """Everything that must not be, by what it is."""
        books = self.books
        return {
            "planned, without a final outcome": sorted(books.untold),
            "called delivered, and no provider took it": sorted(books.claimed),
            "given up": sorted(books.given_up),
            "sent, and not planned": sorted(books.invented),
            "repeated under another identity": sorted(books.other_identity),
            "repeated without a reason": sorted(books.unexplained),
            "ended with an error that nobody handles": [
                meaning(code) for code in self.ends if code not in _HANDLED
            ],
        }

    @property
    def right(self) -> bool:
        """Every fault happened and passed, and nothing is wrong."""
        return self.failure is None and not any(self.wrong.values())

    def figures(self) -> dict[str, float]:
        """The last line of a run with `--json`."""
        books = self.books
        return {
            "faults": len(self.results),
            "deliveries": len(books.planned),
            "requests": len(books.received),
            "lost": books.lost,
            "repeats": books.repeats,
            "in_flight_at_kills": books.in_flight,
            "unexplained_repeats": books.unexplained.total(),
            "uncertain_repeats": books.uncertain_repeats,
            "other_identity": len(books.other_identity),
            "given_up": len(books.given_up),
            "seed": self.seed,
            "seconds": round(self.seconds),
        }

    def show(self, console: Console) -> None:
        """A row for each kind of fault, and what it comes to."""
        rows = Table("fault", "times", "p50 s", "max s")
        for name in sorted({result.fault.name for result in self.results}):
            seconds = [result.seconds for result in self.results if result.fault.name == name]
            rows.add_row(name, str(len(seconds)), f"{statistics.median(seconds):.2f}", f"{max(seconds):.2f}")
        console.print(rows)
        ends = ", ".join(f"{n} x {meaning(code)}" for code, n in sorted(self.ends.items()))
        console.print(", ".join(f"{name} {value:,}" for name, value in self.figures().items()))
        console.print(f"how sender processes ended: {ends}")
        if self.failure is not None:
            console.print(f"stopped after {len(self.results)} faults: {self.failure}")
        for what, which in self.wrong.items():
            if which:
                console.print(f"{what}: {len(which)}, such as {which[:_SHOWN]}")


def run(
    faults: Sequence[Fault],
    *,
    seed: int,
    rate: int,
    home: Path,
    channels: Sequence[Channel] = tuple(CHANNELS),
) -> Report:
    """Inject the faults under load, wait until all is sent, compare the books."""
    began = time.monotonic()
    with stand(home, channels, lambda under: _prepare(under, channels)) as running:
        load = Load(running.servers, channels, rate=rate, seed=seed)
        watch = _watch(running.servers, load, channels)
        with load, watch:
            watch.serving(time.monotonic(), _FIRST)
            results, failure = _injected(Bench(stand=running, watch=watch), faults)
            load.finish()
            _wait_for_the_end(watch, {one.delivery_id for one in load.book})
        books = Books(
            planned=load.book,
            received=running.providers.received(),
            told=[
                _WIRE.decode(Outcome, message.value()) for message in read_topic(running.servers, OUTCOMES)
            ],
            notes=running.notes(),
        )
        return Report(
            books=books,
            results=results,
            ends=_ends(running),
            seconds=time.monotonic() - began,
            seed=seed,
            failure=failure,
        )


def _prepare(under: Ground, channels: Sequence[Channel]) -> None:
    apply(under.servers, table(PARTITIONS), 1)
    asyncio.run(_fill(under.dsn, channels))


async def _fill(dsn: str, channels: Sequence[Channel]) -> None:
    connection = await asyncpg.connect(dsn, timeout=10)
    await migrate(connection)
    await save_profiles(connection, list(profiles(channels)))
    await connection.close(timeout=10)


def _watch(servers: str, load: Load, channels: Sequence[Channel]) -> Watch[Outcome]:
    """Every outcome; a partition works when it brings a delivery to its end."""

    def read(value: bytes | None) -> Sighting[Outcome]:
        told = _WIRE.decode(Outcome, value)
        at = load.at.get(told.delivery_id, 0.0) if told.state in FINAL else 0.0
        return Sighting(what=told, place=(told.channel, told.source_partition), at=at)

    places = list(product(channels, range(PARTITIONS)))
    return Watch(servers, OUTCOMES, partitions=PARTITIONS, places=places, read=read)


def _injected(bench: Bench, faults: Sequence[Fault]) -> tuple[list[Result], str | None]:
    """What they cost, and why there are no more: a fault that did not happen, or that did not pass."""
    results: list[Result] = []
    for fault in faults:
        try:
            results.append(inject(bench, fault))
        except AssertionError as failure:
            return results, f"{fault.name}: {failure}"
        _log.info("%3d  %-20s %6.2f s", len(results), fault.name, results[-1].seconds)
    return results, None


def _wait_for_the_end(watch: Watch[Outcome], planned: set[str]) -> None:
    """Return when everything planned is told, or when nothing is told any more."""
    read = 0
    while True:
        planned -= {one.delivery_id for one in watch.seen[read:] if one.state in FINAL}
        read = len(watch.seen)
        if not planned or not watch.reach(read + 1, _PATIENCE):
            return


def _ends(running: Stand) -> dict[int, int]:
    found: dict[int, int] = {}
    for senders in running.senders.values():
        for code, count in senders.ends.items():
            found[code] = found.get(code, 0) + count
    return found


def main(*, faults: int = 40, seed: int | None = None, rate: int = 160, json: bool = False) -> int:
    """Inject faults into senders under load, and prove that nothing is lost and no phone rings twice unexplained.

    `faults`: at least so many. `seed`: of the load and of the order of the faults; another one each time
    when not given. `rate`: deliveries a second.
    Exit code 0 when nothing is lost, and nothing was repeated but what was in flight or had no answer.
    """
    seed = random.SystemRandom().randrange(1_000_000) if seed is None else seed
    home = Path(tempfile.mkdtemp(prefix="everpost-faults-"))
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    _log.info("seed %d, logs in %s", seed, home)
    report = run(plan(faults, seed), seed=seed, rate=rate, home=home)
    console = Console()
    report.show(console)
    if report.right:
        shutil.rmtree(home)
    else:
        console.print(f"the logs are in {home}")
    if json:
        sys.stdout.write(orjson.dumps(report.figures()).decode() + "\n")
    return 0 if report.right and len(report.results) >= faults else 1
