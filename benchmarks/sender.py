"""`python -m benchmarks.sender`: the whole sender against the providers' own client libraries alone.

The sender is the real process: it reads deliveries from Kafka, asks PostgreSQL for consent and address,
renders, sends, writes the outcome and commits. The library only sends, in a loop, to the same local
provider. They take turns, and who begins changes. The sender then works against itself: with a fifth of
the addresses dead, and with one answer in a hundred that never comes.

Counted is the processor time of the contestant alone, between the first tenth of its messages and the last
twentieth: at the end the sender has nothing left to do but to wait for the answers that never come.
"""

import asyncio
import os
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, Self

import cyclopts
import orjson
import psutil
from confluent_kafka import Consumer, TopicPartition

from benchmarks.deliveries import CONTESTS, TENANT, Contest, Sandbox, addresses, profiles, publish
from benchmarks.loop import WARM, Figures
from infra.embedded import stack
from pipeline import settings
from pipeline.adapters.kafka.admin import apply
from pipeline.adapters.postgres import pool
from pipeline.adapters.postgres.migrate import migrate
from pipeline.adapters.postgres.profiles import save_profiles
from pipeline.adapters.wire.codec import Wire
from pipeline.adapters.wire.ids import LockFile
from pipeline.model.topics import OUTCOMES, table
from pipeline.wiring import clock

PARTITIONS = 4
TARGET, TARGET_APNS, TARGET_FAULTS = 1.0, 0.6, 0.9
TAIL = 0.05  # of the messages, not counted
TIMEOUT = 2.0  # seconds that every connector gives its provider
LONGEST = 300.0  # seconds for one turn
Mood = Literal["clean", "dead", "timeout"]
_FAULTS: dict[Mood, list[dict[str, Any]]] = {
    "clean": [],
    "dead": [{"kind": "dead", "share": 0.2}],
    "timeout": [{"kind": "never", "share": 0.01}],
}
_WIRE = Wire(LockFile())
_LOOK = 0.02  # seconds between two looks
_START = 30.0  # seconds


@dataclass(slots=True, kw_only=True)
class Ground:
    """Where it takes place."""

    running: stack.Stack
    sandbox: Sandbox
    directory: Path  # of the local providers
    provider: psutil.Process
    written: int = 0  # deliveries so far, of all turns


@dataclass(slots=True, kw_only=True)
class Played:
    """The turns of one provider."""

    ceiling: float  # messages a second that the local provider can take
    alone: Figures  # our connector without the sender
    stock: list[Figures] = field(default_factory=list[Figures])
    ours: dict[Mood, list[Figures]] = field(default_factory=dict[Mood, list[Figures]])

    def summary(self) -> dict[str, Any]:
        """What is printed as JSON: medians of the turns, and ratios of medians."""
        clean = self.ours["clean"]
        cpu = statistics.median(one.cpu_us for one in clean)
        stock = statistics.median(one.cpu_us for one in self.stock)
        return {
            "per_second": round(_speed(clean)),
            "cpu_us": round(cpu, 1),
            "cpu_ratio": round(cpu / stock, 3),
            "dead_ratio": round(_speed(self.ours["dead"]) / _speed(clean), 3),
            "timeout_ratio": round(_speed(self.ours["timeout"]) / _speed(clean), 3),
            "per_core": round(1e6 / cpu),
            "stock_per_second": round(_speed(self.stock)),
            "stock_cpu_us": round(stock, 1),
            "alone_cpu_us": round(self.alone.cpu_us, 1),
            "sandbox_per_second": round(self.ceiling),
        }


def _speed(turns: Sequence[Figures]) -> float:
    return statistics.median(one.per_second for one in turns)


@contextmanager
def ground(cache: Path) -> Generator[Ground]:
    """A fresh broker, a fresh database, and the local providers."""
    with tempfile.TemporaryDirectory(prefix="everpost-bench-") as name:
        Path(name).chmod(0o755)  # PostgreSQL's own user must get in
        directory = Path(name) / "providers"
        command = [sys.executable, "-m", "connectors.sandbox", "--dir", str(directory)]
        with stack.up(Path(name) / "home", cache=cache, report=lambda _line: None) as running:
            process = subprocess.Popen(command)
            try:
                _wait_for(directory / "sandboxes.json")
                yield Ground(
                    running=running,
                    sandbox=Sandbox.at(directory),
                    directory=directory,
                    provider=psutil.Process(process.pid),
                )
            finally:
                process.terminate()
                process.wait(_START)


def _wait_for(file: Path) -> None:
    until = time.monotonic() + _START
    while not file.exists():
        if time.monotonic() > until:
            raise TimeoutError("the local providers do not listen")
        time.sleep(_LOOK)


async def prepare(here: Ground) -> None:
    """Topics and tables."""
    apply(here.running.bootstrap_servers, table(PARTITIONS), 1)
    connections = await pool.connect(here.running.postgres_dsn)
    async with pool.session(connections) as connection:
        await migrate(connection)
    await pool.close(connections)


async def people(here: Ground, contest: Contest, found: Sequence[str]) -> None:
    """The users of this provider, and nobody else."""
    connections = await pool.connect(here.running.postgres_dsn)
    async with pool.session(connections) as connection:
        await connection.execute("delete from everpost.profile where tenant = $1", TENANT)
        await save_profiles(connection, list(profiles(contest.channel, found, clock())))
        await connection.execute("vacuum analyze")
    await pool.close(connections)


def faults(here: Ground, provider: str, mood: Mood) -> None:
    """Put the faults of this mood in force, and no others."""
    wanted = [{**fault, "provider": provider} for fault in _FAULTS[mood]]
    for method, body in (("DELETE", None), ("POST", orjson.dumps(wanted))):
        request = urllib.request.Request(f"{here.sandbox.control}/faults", body, method=method)
        urllib.request.urlopen(request, timeout=_START).close()


def loop(here: Ground, module: str, provider: str, messages: int) -> tuple[Figures, float]:
    """A loop of sends in a process of its own; and microseconds of the local provider for each message."""
    faults(here, provider, "clean")
    command = [sys.executable, "-W", "ignore", "-m", module, provider, str(here.directory), str(messages)]
    before = _cpu(here.provider)
    done = subprocess.run(command, check=True, capture_output=True, timeout=LONGEST, text=True)
    provider_us = (_cpu(here.provider) - before) / messages * 1e6
    return Figures.from_json(done.stdout.splitlines()[-1]), provider_us


def ours(here: Ground, contest: Contest, found: Sequence[str], messages: int, mood: Mood) -> Figures:
    """The sender's process, from its first tenth to the end of its input but for the tail."""
    faults(here, contest.provider, mood)
    servers = here.running.bootstrap_servers
    numbers = range(here.written, here.written + messages)
    publish(servers, contest.channel, found, numbers, _WIRE, clock())
    here.written += messages
    environment = (
        os.environ
        | here.sandbox.options
        | {
            "EVERPOST_BOOTSTRAP_SERVERS": servers,
            "EVERPOST_POSTGRES_DSN": here.running.postgres_dsn,
            "EVERPOST_PROVIDERS": orjson.dumps({contest.channel: contest.provider}).decode(),
            f"EVERPOST_CONNECTOR_{contest.provider.upper()}_TIMEOUT": str(TIMEOUT),
            "EVERPOST_IN_FLIGHT": "400",
        }
    )
    command = [sys.executable, "-m", "pipeline.cli.main", "run", f"send-{contest.channel}"]
    with Outcomes(servers) as outcomes, (here.directory / "sender.log").open("a") as log:
        sender = subprocess.Popen(command, env=environment, stdout=log, stderr=log)
        try:
            return _watched(psutil.Process(sender.pid), outcomes, messages)
        finally:
            sender.terminate()
            sender.wait(_START)


def _watched(sender: psutil.Process, outcomes: "Outcomes", messages: int) -> Figures:
    """The figures between two moments; returns when every outcome is written."""
    first = _moment(sender, outcomes, int(messages * WARM))
    last = _moment(sender, outcomes, int(messages * (1 - TAIL)))
    _moment(sender, outcomes, messages)
    count = last[0] - first[0]
    return Figures(per_second=count / (last[1] - first[1]), cpu_us=(last[2] - first[2]) / count * 1e6)


def _moment(sender: psutil.Process, outcomes: "Outcomes", wanted: int) -> tuple[int, float, float]:
    """Outcomes, time and processor time when so many outcomes are there."""
    until = time.monotonic() + LONGEST
    while time.monotonic() < until:
        count, now, cpu = outcomes.count(), time.perf_counter(), _cpu(sender)
        if count >= wanted:
            return count, now, cpu
        time.sleep(_LOOK)
    raise TimeoutError(f"the sender has written {outcomes.count()} of {wanted} outcomes; see its log")


class Outcomes:
    """How many outcomes have been written since."""

    def __init__(self, servers: str) -> None:
        self._consumer = Consumer({"bootstrap.servers": servers, "group.id": "bench"})
        self._before = 0
        self._before = self.count()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._consumer.close()

    def count(self) -> int:
        """By the ends of their partitions: the sender writes without transactions."""
        places = [TopicPartition(OUTCOMES, number) for number in range(PARTITIONS)]
        return sum(self._consumer.get_watermark_offsets(one, 10)[1] for one in places) - self._before


def _cpu(process: psutil.Process) -> float:
    times = process.cpu_times()
    return times.user + times.system


def play(here: Ground, contest: Contest, messages: int, turns: int) -> Played:
    """All turns of one provider."""
    found = addresses(contest, here.sandbox)
    asyncio.run(people(here, contest, found))
    alone, provider_us = loop(here, "benchmarks.alone", contest.provider, messages)
    played = Played(ceiling=1e6 / provider_us, alone=alone)
    print(
        f"{contest.provider:<8} the local provider takes {provider_us:.0f} µs a message: at most "
        f"{played.ceiling:,.0f}/s; our connector alone {alone.cpu_us:.0f} µs, {alone.per_second:,.0f}/s",
        flush=True,
    )
    for turn in range(turns):
        moods: list[Mood] = ["clean", "dead", "timeout"]
        if turn % 2 == 0:
            played.stock.append(loop(here, "benchmarks.peers.stock", contest.provider, messages)[0])
        for mood in moods:
            played.ours.setdefault(mood, []).append(ours(here, contest, found, messages, mood))
        if turn % 2:
            played.stock.append(loop(here, "benchmarks.peers.stock", contest.provider, messages)[0])
        print(f"         {_line(played)}", flush=True)
    return played


def _line(played: Played) -> str:
    """The last turn in words."""
    stock = played.stock[-1]
    words = [f"library {stock.cpu_us:.0f} µs, {stock.per_second:,.0f}/s"]
    words += [
        f"sender {mood} {turns[-1].cpu_us:.0f} µs, {turns[-1].per_second:,.0f}/s"
        for mood, turns in played.ours.items()
    ]
    return "; ".join(words)


def reached(provider: str, summary: dict[str, Any]) -> bool:
    """Whether a provider's figures are what they should be."""
    target = TARGET_APNS if provider == "apns" else TARGET
    faults_well = min(summary["dead_ratio"], summary["timeout_ratio"]) >= TARGET_FAULTS
    return summary["cpu_ratio"] <= target and faults_well


def main(
    *, channel: list[str] | None = None, messages: int | None = None, turns: int = 2, json: bool = False
) -> int:
    """Run the contests and print the ratios.

    `channel`: providers (apns, fcm, webpush, vonage, twilio, smtp), all unless named. Exit code 0 when every
    one costs at most what its library does (APNs: 0.6 of it) and keeps 0.9 of its speed under faults.
    """
    chosen = [one for one in CONTESTS if not channel or one.provider in channel]
    found: dict[str, dict[str, Any]] = {}
    with ground(settings.load().home / "cache") as here:
        asyncio.run(prepare(here))
        for contest in chosen:
            found[contest.provider] = play(here, contest, messages or contest.messages, turns).summary()
    for provider, summary in found.items():
        print(
            f"{provider:<8} {summary['cpu_ratio']:.2f} × the library's processor time "
            f"({summary['cpu_us']:.0f} of {summary['stock_cpu_us']:.0f} µs), {summary['per_core']:,}/s a core; "
            f"dead {summary['dead_ratio']:.2f}, timeouts {summary['timeout_ratio']:.2f}"
        )
    if json:
        print(orjson.dumps({"channels": found}).decode())
    return 0 if all(reached(provider, summary) for provider, summary in found.items()) else 1


if __name__ == "__main__":
    app = cyclopts.App(default_command=main, result_action="return_value")
    sys.exit(app())
