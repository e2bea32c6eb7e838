"""`python -m benchmarks.router`: the router's whole product path against a stream library on the bare job.

In every turn both work on the same input on the same fresh broker, one after the other, and who begins
changes from turn to turn; so does how many threads (Kafka Streams) or processes (Quix Streams) the peer
has, and its best turn counts. The product decides through all gates, with profiles from PostgreSQL, and
writes decisions with their evidence; the peer drops repeats, looks up a table in memory and writes
deliveries. Both outputs are compared with what must come out, record by record.
"""

import asyncio
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import cyclopts
import orjson
import psutil

from benchmarks.load import CHANNELS, Expected, profiles, publish
from benchmarks.measure import Figures, committed_values, watch
from benchmarks.peers import quix, streams
from benchmarks.peers.output import written
from infra.embedded import stack
from pipeline import settings
from pipeline.adapters.kafka.admin import apply
from pipeline.adapters.postgres import pool
from pipeline.adapters.postgres.migrate import migrate
from pipeline.adapters.postgres.profiles import save_profiles
from pipeline.adapters.wire.codec import Wire
from pipeline.adapters.wire.ids import LockFile
from pipeline.model.decision import Decision
from pipeline.model.delivery import Delivery
from pipeline.model.topics import DECISIONS, deliver, events, table
from pipeline.wiring import clock

TOPIC = events("normal")
TARGETS = {"kafka-streams": 3.0, "quix-streams": 5.0}
CATALOGUE = Path(__file__).parent / "catalogue"
Peer = streams.Streams | quix.Quix
Name = Literal["kafka-streams", "quix-streams"]
_WIRE = Wire(LockFile())
_LOAD = 5_000  # profiles a transaction


@dataclass(frozen=True, slots=True, kw_only=True)
class Turn:
    """Both contestants once, and whether both outputs were right."""

    product: Figures
    peer: Figures
    right: bool


@contextmanager
def stage(cache: Path) -> Generator[stack.Stack]:
    """A fresh broker and database."""
    with tempfile.TemporaryDirectory(prefix="everpost-bench-") as name:
        Path(name).chmod(0o755)  # PostgreSQL's own user must get in
        with stack.up(Path(name) / "home", cache=cache, report=lambda _line: None) as running:
            yield running


async def fill(running: stack.Stack, users: int) -> None:
    """Topics, tables and profiles."""
    apply(running.bootstrap_servers, table(4), 1)
    connections = await pool.connect(running.postgres_dsn)
    people = list(profiles(users, clock()))
    async with pool.session(connections) as connection:
        await migrate(connection)
        for first in range(0, users, _LOAD):
            await save_profiles(connection, people[first : first + _LOAD])
        await connection.execute("vacuum analyze")
    await pool.close(connections)


def product(running: stack.Stack, routers: int, count: int) -> Figures:
    """The router's processes, from their start to the end of the input."""
    environment = os.environ | {
        "EVERPOST_BOOTSTRAP_SERVERS": running.bootstrap_servers,
        "EVERPOST_POSTGRES_DSN": running.postgres_dsn,
        "EVERPOST_CATALOGUE": str(CATALOGUE),
        "EVERPOST_HOME": str(running.home),
        "EVERPOST_BATCH": "5000",
        "EVERPOST_LOG_LEVEL": "warning",
    }
    command = [sys.executable, "-m", "pipeline.cli.main", "run", "route"]
    started = [
        subprocess.Popen(command, env=environment | {"EVERPOST_INSTANCE": str(n)}) for n in range(routers)
    ]
    try:
        processes = [psutil.Process(one.pid) for one in started]
        return watch(running.bootstrap_servers, "everpost.route", TOPIC, count, processes)
    finally:
        for one in started:
            one.terminate()
        for one in started:
            one.wait(30)


def contest(job: Peer, running: stack.Stack, workers: int, users: int, count: int) -> Figures:
    """The peer, from its start to the end of the input."""
    servers = running.bootstrap_servers
    started = job.start(servers, "peer", TOPIC, workers, users, running.home / "peer-state")
    try:
        return watch(servers, "peer", TOPIC, count, [psutil.Process(one.pid) for one in started])
    finally:
        for one in started:
            one.terminate()
        for one in started:
            one.wait(30)


def right(servers: str, expected: Expected) -> bool:
    """Whether both contestants wrote exactly what must come out, each delivery once."""
    ours = [
        (one.event_id, one.channel)
        for channel in CHANNELS
        for value in committed_values(servers, deliver(channel, "normal"))
        for one in (_WIRE.decode(Delivery, value.getvalue()),)
    ]
    decisions = [_WIRE.decode(Decision, v.getvalue()).verdict for v in committed_values(servers, DECISIONS)]
    theirs = list(written(servers, "peer"))
    return (
        len(decisions) == expected.events
        and decisions.count("duplicate") == expected.events - expected.unique
        and len(ours) == len(theirs) == len(expected.deliveries)
        and frozenset(ours) == frozenset(theirs) == expected.deliveries
    )


def turn(cache: Path, job: Peer, number: int, count: int, users: int, workers: int) -> Turn:
    """Both contestants on the same input."""
    peers_workers = max(1, workers - number % 2)
    with stage(cache) as running:
        asyncio.run(fill(running, users))
        servers = running.bootstrap_servers
        expected = publish(servers, TOPIC, count, users, _WIRE, clock())
        if number % 2:
            theirs = contest(job, running, peers_workers, users, count)
            ours = product(running, workers, count)
        else:
            ours = product(running, workers, count)
            theirs = contest(job, running, peers_workers, users, count)
        return Turn(product=ours, peer=theirs, right=right(servers, expected))


@contextmanager
def chosen(peer: Name, cache: Path) -> Generator[Peer]:
    """The peer, ready to be started."""
    if peer == "quix-streams":
        yield quix.installed(cache)
        return
    with tempfile.TemporaryDirectory() as scratch:
        yield streams.compiled(cache, Path(scratch))


def main(
    *,
    peer: Name = "kafka-streams",
    events: int = 1_000_000,
    users: int = 100_000,
    turns: int = 3,
    workers: int = 2,
    json: bool = False,
) -> int:
    """Run the contest and print the ratio.

    `workers`: processes of the product, and the most threads or processes of the peer. Exit code 0 when
    the ratio is at least 3.0 (Kafka Streams) or 5.0 (Quix Streams) and both outputs are right.
    """
    cache = settings.load().home / "cache"
    with chosen(peer, cache) as job:
        played = [turn(cache, job, number, events, users, workers) for number in range(turns)]
    for one in played:
        print(
            f"product {one.product.events_per_second:>9,.0f} events/s, {one.product.cpu:.1f} s processor, "
            f"{one.product.rss_mb:.0f} MB   {peer} {one.peer.events_per_second:>9,.0f} events/s, "
            f"{one.peer.cpu:.1f} s processor   outputs {'right' if one.right else 'WRONG'}"
        )
    outcome = summary(played, events)
    print(f"best of {turns} turns: {outcome['ratio']} times {peer}; target {TARGETS[peer]}")
    if json:
        print(orjson.dumps(outcome).decode())
    return 0 if outcome["ratio"] >= TARGETS[peer] and outcome["outputs_ok"] else 1


def summary(played: Sequence[Turn], events: int) -> dict[str, Any]:
    """The figures of all turns; the best of each contestant are compared."""
    ours = max(one.product.events_per_second for one in played)
    theirs = max(one.peer.events_per_second for one in played)
    return {
        "ratio": round(ours / theirs, 3),
        "events_per_second": round(ours),
        "peer_events_per_second": round(theirs),
        "cpu_s_per_million": round(statistics.median(one.product.cpu for one in played) / events * 1e6, 1),
        "rss_mb": round(max(one.product.rss_mb for one in played)),
        "outputs_ok": all(one.right for one in played),
    }


if __name__ == "__main__":
    app = cyclopts.App(default_command=main, result_action="return_value")
    sys.exit(app())
