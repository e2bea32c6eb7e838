"""`python -m benchmarks.relay`: from the outbox table to Kafka, by the real process, beside a plain poller.

First a full table is drained, by the relay and by the peer in turns, and what came to Kafka is counted. Then
events are committed one by one at a steady rate, and the time of each runs from its commit to a reader of
committed records. Then one of two relays is killed, and one is stopped, and the time runs until what was its
part has gone out.
"""

import asyncio
import os
import signal
import sys
import time
from collections.abc import Generator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import asyncpg
import cyclopts
import orjson
import psutil

from benchmarks.outbox import OURS, PEERS, TOPIC, fill, holders, in_kafka, steadily, waiting, watcher
from benchmarks.replay import prepare, stage
from infra.embedded.stack import Stack
from pipeline import settings
from pipeline.adapters.kafka.ends import end_offsets
from pipeline.adapters.postgres.pool import close, connect
from pipeline.model.errors import DependencyDown
from pipeline.model.shares import SHARES

PER_SECOND, P99 = 50_000.0, 50.0  # rows; milliseconds
WARM = 5.0  # seconds that are not counted
LONGEST = 600.0  # seconds for one turn
_PATIENCE = 60.0  # seconds for what takes five
_LOOK = 0.02  # seconds between two looks
_RELAY = ("-m", "pipeline.cli.main", "run", "relay")
_POLLER = ("-m", "benchmarks.peers.poller")
_BATCH = 1_000  # rows of one of the poller's
_LEFT = 2_000  # rows that are committed right after a relay has gone


@dataclass(frozen=True, slots=True, kw_only=True)
class Drained:
    """One turn of one contestant."""

    per_second: float
    cpu: float  # seconds of its processes for a million rows, their start apart
    server_cpu: float  # seconds of PostgreSQL for a million rows
    repeats: int  # records beyond one a row


@contextmanager
def processes(running: Stack, log: Path, *commands: Sequence[str]) -> Generator[list[psutil.Popen]]:
    """Python processes on the services; ended with the block, however they stand."""
    environment = os.environ | {
        "EVERPOST_BOOTSTRAP_SERVERS": running.bootstrap_servers,
        "EVERPOST_POSTGRES_DSN": running.postgres_dsn,
        "EVERPOST_HOME": str(running.home),
        "EVERPOST_LOG_LEVEL": "warning",
    }
    with ExitStack() as opened:
        out = opened.enter_context(log.open("a"))
        started: list[psutil.Popen] = []
        for command in commands:
            started.append(psutil.Popen([sys.executable, *command], env=environment, stdout=out, stderr=out))
            opened.callback(_end, started[-1])
        try:
            yield started
        except RuntimeError:
            print(log.read_text()[-2_000:], file=sys.stderr)
            raise


def _end(process: psutil.Popen) -> None:
    if process.poll() is None:
        process.kill()
    process.wait(30)


def ends(running: Stack) -> int:
    """How many records the topic has; a topic that is new has no leader for a moment."""
    until = time.monotonic() + LONGEST
    while True:
        try:
            return sum(end_offsets(running.bootstrap_servers, [TOPIC]).values())
        except DependencyDown:
            if time.monotonic() > until:
                raise


def cpu(of: Sequence[psutil.Process]) -> float:
    """Processor seconds so far."""
    return sum(sum(one.cpu_times()[:2]) for one in of)


def postgres_cpu(running: Stack) -> float:
    """Processor seconds so far of the server and all its sessions, of those that have ended too."""
    port = running.postgres_dsn.rpartition(":")[2].partition("/")[0]
    server = next(
        psutil.Process(one.pid)
        for one in psutil.net_connections("tcp")
        if one.pid and one.status == "LISTEN" and one.laddr and str(one.laddr.port) == port
    )
    return sum(server.cpu_times()[:4]) + cpu(server.children())


async def until_empty(pool: asyncpg.Pool, table: str) -> None:
    """Wait until no row waits."""
    async with asyncio.timeout(LONGEST):
        while await waiting(pool, table):  # noqa: ASYNC110  # a table has no asyncio.Event
            await asyncio.sleep(_LOOK)


async def drain(running: Stack, log: Path, table: str, rows: int, *commands: Sequence[str]) -> Drained:
    """Fill a table, and time from the first record in Kafka to the last one."""
    pool = await connect(running.postgres_dsn)
    before = ends(running)
    await fill(pool, table, before, rows)
    server = postgres_cpu(running)
    with processes(running, log, *commands) as started:
        first: tuple[float, int, float] | None = None
        until = time.monotonic() + LONGEST
        while (done := ends(running) - before) < rows or first is None:
            if done and first is None:
                first = (time.monotonic(), done, cpu(started))
            if time.monotonic() > until or any(one.poll() is not None for one in started):
                raise RuntimeError(
                    f"{done:,} of {rows:,} rows are in Kafka, and a process has ended or hangs"
                )
            await asyncio.sleep(_LOOK)
        took = time.monotonic() - first[0]
        await until_empty(pool, table)
        used = cpu(started) - first[2]
    timed = rows - first[1]
    server = postgres_cpu(running) - server
    await close(pool)
    return Drained(
        per_second=timed / took,
        cpu=used / timed * 1e6,
        server_cpu=server / rows * 1e6,
        repeats=ends(running) - before - rows,
    )


async def latency(running: Stack, log: Path, rate: int, seconds: float) -> tuple[float, float]:
    """p50 and p99 in milliseconds from the commit of an event to its reader."""
    with processes(running, log, _RELAY), watcher(running.bootstrap_servers) as watched:
        warm = await steadily(running.postgres_dsn, rate, WARM)
        committed = await steadily(running.postgres_dsn, rate, seconds)
        read = await asyncio.to_thread(watched.until, len(warm) + len(committed), LONGEST)
    took = sorted((read[one] - at) * 1e3 for one, at in committed.items())
    return took[len(took) // 2], took[int(len(took) * 0.99)]


async def takeover(running: Stack, log: Path, signum: signal.Signals) -> float:
    """Seconds from a signal to one of two relays until all that was committed right after it has gone out."""
    pool = await connect(running.postgres_dsn)
    with processes(running, log, _RELAY, _RELAY) as started:
        until = time.monotonic() + _PATIENCE
        while (held := await holders(pool)) != [SHARES // 2] * 2:
            if time.monotonic() > until or any(one.poll() is not None for one in started):
                raise RuntimeError(f"two relays hold {held} shares, or one has ended")
            await asyncio.sleep(_LOOK)
        began = time.monotonic()
        started[0].send_signal(signum)
        await fill(pool, OURS, ends(running), _LEFT)
        while await waiting(pool, OURS):
            if time.monotonic() > began + _PATIENCE or started[1].poll() is not None:
                raise RuntimeError(f"rows wait still; shares held: {await holders(pool)}")
            await asyncio.sleep(_LOOK)
        took = time.monotonic() - began
    await close(pool)
    return took


def main(
    *,
    rows: int = 1_000_000,
    relays: int = 1,
    rate: int = 1_000,
    seconds: float = 30.0,
    peer_rows: int = 200_000,
    json: bool = False,
) -> int:
    """Measure and print the figures.

    `relays`: processes that drain. `rate`: commits a second for the latency. `peer_rows`: rows of the peer's
    turn. Exit code 0 at 50,000 rows/s, with a p99 of at most 50 ms and every row once in Kafka.
    """
    with stage(settings.load().home / "cache") as running:
        log = Path(running.home).parent / "processes.log"
        asyncio.run(prepare(running))
        ours = asyncio.run(drain(running, log, OURS, rows, *[_RELAY] * relays))
        written, different = in_kafka(running.bootstrap_servers)
        print(_told(f"{relays} relay(s), {rows:,} rows", ours), flush=True)
        poller = (*_POLLER, running.postgres_dsn, running.bootstrap_servers, PEERS, str(_BATCH))
        peer = asyncio.run(drain(running, log, PEERS, peer_rows, poller))
        print(_told(f"a plain poller, {peer_rows:,} rows", peer), flush=True)
        p50, p99 = asyncio.run(latency(running, log, rate, seconds))
        print(f"commit to Kafka at {rate:,} rows/s: p50 {p50:.1f} ms, p99 {p99:.1f} ms", flush=True)
        killed = asyncio.run(takeover(running, log, signal.SIGKILL))
        stopped = asyncio.run(takeover(running, log, signal.SIGSTOP))
        print(f"a share is taken over: {killed:.1f} s after kill -9, {stopped:.1f} s after SIGSTOP")
    complete = different == rows and written == rows + ours.repeats
    if json:
        found = {
            "per_second": round(ours.per_second),
            "cpu_s_per_million": round(ours.cpu, 1),
            "postgres_cpu_s_per_million": round(ours.server_cpu, 1),
            "commit_to_kafka_p50_ms": round(p50, 1),
            "commit_to_kafka_p99_ms": round(p99, 1),
            "peer_per_second": round(peer.per_second),
            "peer_cpu_s_per_million": round(peer.cpu, 1),
            "takeover_killed_s": round(killed, 1),
            "takeover_stopped_s": round(stopped, 1),
            "complete": complete,
            "repeats": ours.repeats,
        }
        print(orjson.dumps(found).decode())
    return 0 if complete and ours.per_second >= PER_SECOND and p99 <= P99 else 1


def _told(who: str, found: Drained) -> str:
    return (
        f"{who}: {found.per_second:,.0f} rows/s, {found.cpu:.1f} CPU seconds a million "
        f"(and {found.server_cpu:.1f} of PostgreSQL), {found.repeats:,} repeats"
    )


if __name__ == "__main__":
    app = cyclopts.App(default_command=main, result_action="return_value")
    sys.exit(app())
