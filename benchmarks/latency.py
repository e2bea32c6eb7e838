"""`python -m benchmarks.latency`: from `publish()` to the provider's yes, through the whole pipeline.

The real processes on the embedded services: one router, one APNs sender, the local provider. Events are
published by the SDK at a steady rate, each at its own moment whether or not the ones before have been
acknowledged, and the time of one runs from that moment to the provider's own note of its request.

First the ordinary lane alone. Then the urgent lane, while a great many bulk deliveries drain.
"""

import asyncio
import os
import subprocess
import sys
import time
from collections.abc import Generator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import cyclopts
import orjson
import psutil

from benchmarks.deliveries import CONTESTS, addresses, delivered_as, event
from benchmarks.sender import Ground, ground, people, prepare
from connectors.sandbox.record import Received
from pipeline import settings
from pipeline.model.event import Lane
from pipeline.sdk.client import Client
from pipeline.wiring import catalogue, clock

P50, P99, URGENT_P99 = 25.0, 100.0, 150.0  # milliseconds
TICK = 0.005  # seconds between two looks at what is due
WARM = 5.0  # seconds that are not counted: connections, profiles, caches
URGENT_RATE = 50  # events a second
LONGEST = 120.0  # seconds for the last one to arrive
APNS = CONTESTS[0]
STAGES = ("route", "send-apns")


@dataclass(slots=True)
class Book:
    """When each event was due to be published, by the id of its delivery."""

    due: dict[str, float] = field(default_factory=dict[str, float])  # seconds since 1970
    written: int = 0  # events so far, of all lanes

    def add(self, at: float) -> int:
        """One event more; gives its number."""
        number, self.written = self.written, self.written + 1
        self.due[delivered_as(APNS.channel, number)] = at
        return number


@contextmanager
def stages(here: Ground) -> Generator[list[psutil.Process]]:
    """The router and the sender, as they run anywhere."""
    environment = (
        os.environ
        | here.sandbox.options
        | {
            "EVERPOST_BOOTSTRAP_SERVERS": here.running.bootstrap_servers,
            "EVERPOST_POSTGRES_DSN": here.running.postgres_dsn,
            "EVERPOST_HOME": str(here.running.home),
            "EVERPOST_LOG_LEVEL": "warning",
        }
    )
    with ExitStack() as opened:
        log = opened.enter_context((here.directory / "stages.log").open("a"))
        started = [
            subprocess.Popen(
                [sys.executable, "-m", "pipeline.cli.main", "run", stage],
                env=environment,
                stdout=log,
                stderr=log,
            )
            for stage in STAGES
        ]
        for one in started:
            opened.callback(one.wait, 30)
            opened.callback(one.terminate)
        yield [psutil.Process(one.pid) for one in started]


def client(here: Ground) -> Client:
    """The SDK as a service uses it."""
    return Client(here.running.bootstrap_servers, catalogue=catalogue(settings.load()).types)


async def steadily(client: Client, book: Book, lane: Lane, rate: float, seconds: float) -> None:
    """Publish at this rate; each event's time runs from when it was due."""
    began, first = time.time(), 0  # noqa: TID251 - to be held against the provider's own clock
    async with asyncio.TaskGroup() as publishing:
        while first < rate * seconds:
            now = time.time()  # noqa: TID251 - as above
            for number in range(first, min(int((now - began) * rate) + 1, int(rate * seconds))):
                made = event(book.add(began + number / rate), clock(), lane)
                publishing.create_task(client.publish(made))
                first = number + 1
            await asyncio.sleep(TICK)


async def at_once(client: Client, book: Book, count: int) -> None:
    """Put so many bulk events in, as fast as they are taken."""
    for first in range(0, count, 10_000):
        some = range(first, min(first + 10_000, count))
        await client.publish_many([event(book.add(0.0), clock(), "bulk") for _ in some])


class Arrivals:
    """What the local provider has noted, read as it grows."""

    def __init__(self, directory: Path) -> None:
        self._file = directory / "received.jsonl"
        self._read = 0
        self.at: dict[str, float] = {}

    def look(self) -> None:
        """Read on; the last line may be half there."""
        with self._file.open("rb") as lines:
            lines.seek(self._read)
            for line in lines:
                if line.endswith(b"\n"):
                    self._read += len(line)
                    one = Received.from_json(line.decode())
                    self.at.setdefault(one.delivery_id, one.at.timestamp())

    async def of(self, due: Sequence[str]) -> None:
        """Wait until all of these have arrived."""
        until = time.monotonic() + LONGEST
        while True:
            self.look()
            missing = sum(one not in self.at for one in due)
            if not missing:
                return
            if time.monotonic() > until:
                raise TimeoutError(f"{missing} of {len(due)} have not arrived in {LONGEST} s")
            await asyncio.sleep(0.2)


def percentiles(book: Book, arrivals: Arrivals, due: Sequence[str]) -> tuple[float, float]:
    """p50 and p99 in milliseconds."""
    took = sorted((arrivals.at[one] - book.due[one]) * 1e3 for one in due)
    return took[len(took) // 2], took[int(len(took) * 0.99)]


async def ordinary(here: Ground, book: Book, rate: int, seconds: float) -> tuple[float, float]:
    """The ordinary lane, with nothing else to do."""
    arrivals = Arrivals(here.directory)
    async with client(here) as publisher:
        await steadily(publisher, book, "normal", rate / 10, WARM)
        await arrivals.of(list(book.due))
        await steadily(publisher, book, "normal", rate, WARM)
        warm = len(book.due)
        await steadily(publisher, book, "normal", rate, seconds)
    due = list(book.due)[warm:]
    await arrivals.of(due)
    return percentiles(book, arrivals, due)


async def urgent(here: Ground, book: Book, bulk: int, seconds: float) -> tuple[float, float, int]:
    """The urgent lane while bulk deliveries drain: p50, p99, and how many of those were left at the end."""
    arrivals = Arrivals(here.directory)
    async with client(here) as publisher:
        begin = len(book.due)
        await at_once(publisher, book, bulk)
        queued = list(book.due)[begin:]
        await steadily(publisher, book, "urgent", URGENT_RATE, WARM)
        warm = len(book.due)
        await steadily(publisher, book, "urgent", URGENT_RATE, seconds)
    due = list(book.due)[warm:]
    await arrivals.of(due)
    return *percentiles(book, arrivals, due), sum(one not in arrivals.at for one in queued)


def main(*, rate: int = 1_000, seconds: float = 30.0, bulk: int = 600_000, json: bool = False) -> int:
    """Measure both lanes and print the figures.

    `rate`: ordinary events a second. `bulk`: deliveries that drain beside the urgent ones. Exit code 0 when
    p50 is at most 25 ms, p99 100 ms, and the urgent lane's p99 150 ms with bulk deliveries left at the end.
    """
    book = Book()
    with ground(settings.load().home / "cache") as here:
        asyncio.run(prepare(here))
        asyncio.run(people(here, APNS, addresses(APNS, here.sandbox)))
        with stages(here) as processes:
            p50, p99 = asyncio.run(ordinary(here, book, rate, seconds))
            print(f"{rate:,} events/s: p50 {p50:.1f} ms, p99 {p99:.1f} ms", flush=True)
            urgent_p50, urgent_p99, left = asyncio.run(urgent(here, book, bulk, seconds))
            cpu = [sum(one.cpu_times()[:2]) for one in processes]
    print(
        f"urgent beside {bulk:,} bulk deliveries: p50 {urgent_p50:.1f} ms, p99 {urgent_p99:.1f} ms; {left:,} left"
    )
    print(f"processor: {', '.join(f'{name} {s:.1f} s' for name, s in zip(STAGES, cpu, strict=True))}")
    found = {
        "p50_ms": round(p50, 1),
        "p99_ms": round(p99, 1),
        "urgent_p50_ms": round(urgent_p50, 1),
        "urgent_p99_ms": round(urgent_p99, 1),
        "bulk_left": left,
        "events": book.written,
    }
    if json:
        print(orjson.dumps(found).decode())
    return 0 if p50 <= P50 and p99 <= P99 and urgent_p99 <= URGENT_P99 and left else 1


if __name__ == "__main__":
    app = cyclopts.App(default_command=main, result_action="return_value")
    sys.exit(app())
