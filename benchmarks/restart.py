"""`python -m benchmarks.restart`: how long a router's start takes until it decides, with a window full of ids.

The window is written as routers write it, `--decisions` ids over all partitions; then one event waits. Cold:
the router has no store on its disk and reads all of it. Warm: it was killed with `kill -9` and has its store.
Both times run from the start of the process, Python's own start included, to the commit of the decision.
"""

import asyncio
import os
import random
import subprocess
import sys
import time
from collections.abc import Mapping
from datetime import timedelta

import cyclopts
import orjson
import psutil
from confluent_kafka import Producer

from benchmarks.load import TENANT
from benchmarks.measure import PARTITIONS
from benchmarks.router import CATALOGUE, TOPIC, fill, stage
from infra.embedded.stack import Stack
from pipeline import settings
from pipeline.adapters.kafka.readback import values
from pipeline.adapters.wire.codec import Wire
from pipeline.adapters.wire.ids import LockFile
from pipeline.model import window
from pipeline.model.event import Event
from pipeline.model.moment import ms
from pipeline.model.topics import DECISIONS, WINDOW
from pipeline.model.window import Page
from pipeline.wiring import clock

COLD, WARM, RSS = 3.0, 1.0, 300.0  # seconds, seconds, MB: the targets
_WIRE = Wire(LockFile())
_PAGE = 1_250  # ids: a batch of 5,000 over four partitions
_LONGEST = 120.0  # seconds for one start


def remember(servers: str, decisions: int) -> None:
    """Write so many ids to the window."""
    producer = Producer(
        {"bootstrap.servers": servers, "linger.ms": 20, "queue.buffering.max.kbytes": 262_144}
    )
    chance, now = random.Random(1), ms(clock())
    packed = window.pack(TOPIC, 0, "deliver", now, b"12345678")
    for number in range(decisions // _PAGE):
        page = Page(entries={chance.randbytes(window.ID): packed for _ in range(_PAGE)})
        producer.produce(WINDOW, page.encode(), partition=number % PARTITIONS)
        producer.poll(0)
    producer.flush(60)


def started(running: Stack, number: int) -> tuple[float, float]:
    """Publish one event, start a router, kill it when it has decided: the seconds, and its memory in MB."""
    event = Event(
        event_id=f"restart-{number}",
        user_id="u1",
        tenant=TENANT,
        type="order.shipped",
        created_at=clock(),
        data={"order": "123", "name": "Kim", "carrier": "DHL", "eta": "tomorrow"},
    )
    producer = Producer({"bootstrap.servers": running.bootstrap_servers, "partitioner": "murmur2_random"})
    producer.produce(TOPIC, _WIRE.encode(event), event.key)
    producer.flush(10)
    environment: Mapping[str, str] = os.environ | {
        "EVERPOST_BOOTSTRAP_SERVERS": running.bootstrap_servers,
        "EVERPOST_POSTGRES_DSN": running.postgres_dsn,
        "EVERPOST_CATALOGUE": str(CATALOGUE),
        "EVERPOST_HOME": str(running.home),
        "EVERPOST_LOG_LEVEL": "warning",
    }
    began = time.monotonic()
    process = subprocess.Popen([sys.executable, "-m", "pipeline.cli.main", "run", "route"], env=environment)
    try:
        while _decided(running.bootstrap_servers) <= number:
            if process.poll() is not None or time.monotonic() - began > _LONGEST:
                raise RuntimeError(f"the router has not decided within {_LONGEST} s, or has ended")
            time.sleep(0.01)
        return time.monotonic() - began, psutil.Process(process.pid).memory_info().rss / 1e6
    finally:
        process.kill()
        process.wait()


def _decided(servers: str) -> int:
    return sum(1 for _ in values(servers, DECISIONS, range(PARTITIONS), clock() - timedelta(hours=1)))


def main(*, decisions: int = 1_000_000, turns: int = 3, json: bool = False) -> int:
    """Measure cold and warm starts in turns; exit code 0 when all targets hold."""
    cache = settings.load().home / "cache"
    with stage(cache) as running:
        asyncio.run(fill(running, 2))
        remember(running.bootstrap_servers, decisions)
        cold, warm, memory = [], [], []
        for number in range(turns):
            subprocess.run(["rm", "-rf", str(running.home / "router")], check=True)
            seconds, rss = started(running, 2 * number)
            again, later = started(running, 2 * number + 1)
            print(f"cold {seconds:.2f} s at {rss:.0f} MB, warm {again:.2f} s at {later:.0f} MB")
            cold.append(seconds)
            warm.append(again)
            memory += [rss, later]
    outcome = {
        "cold_s": round(min(cold), 2),
        "warm_s": round(min(warm), 2),
        "decisions": decisions,
        "rss_mb": round(max(memory)),
    }
    if json:
        print(orjson.dumps(outcome).decode())
    return 0 if outcome["cold_s"] <= COLD and outcome["warm_s"] <= WARM and outcome["rss_mb"] <= RSS else 1


if __name__ == "__main__":
    app = cyclopts.App(default_command=main, result_action="return_value")
    sys.exit(app())
