"""The router under `kill -9`: each event is decided once, and what is decided is what is delivered."""

import os
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Generator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path

import asyncpg
import pytest

from pipeline.adapters.kafka.admin import apply
from pipeline.adapters.kafka.readback import values
from pipeline.adapters.postgres.migrate import migrate
from pipeline.adapters.postgres.profiles import save_profiles
from pipeline.adapters.wire.codec import Wire
from pipeline.adapters.wire.ids import LockFile
from pipeline.model.decision import Decision
from pipeline.model.delivery import Delivery
from pipeline.model.topics import DECISIONS, deliver, table
from pipeline.sdk import Client, new_event
from pipeline.settings import Settings
from pipeline.wiring import catalogue
from tests.support.make import profile
from tests.support.services import until

pytestmark = [pytest.mark.faults, pytest.mark.integration]
PARTITIONS = 4
WIRE = Wire(LockFile())
EVENTS, USERS = 4_000, 200
FLIGHT = {
    "flight": "UA 1018",
    "carrier": "United",
    "origin": "EWR",
    "destination": "IAH",
    "scheduled": "05:25",
}


@contextmanager
def router(kafka: str, postgres: str, log: Path) -> Generator["subprocess.Popen[bytes]"]:
    """A router process of the real command, with small batches so that a kill meets a transaction."""
    environment = os.environ | {
        "EVERPOST_BOOTSTRAP_SERVERS": kafka,
        "EVERPOST_POSTGRES_DSN": postgres,
        "EVERPOST_BATCH": "50",
    }
    with log.open("ab") as out:
        process = subprocess.Popen(
            [sys.executable, "-m", "pipeline.cli.main", "run", "route"], env=environment, stderr=out
        )
    try:
        yield process
    finally:
        process.kill()
        process.wait()


def decisions(kafka: str) -> list[Decision]:
    """Every committed decision."""
    since = datetime.now(UTC) - timedelta(hours=1)  # noqa: TID251 - a test's own clock
    return [WIRE.decode(Decision, v) for v in values(kafka, DECISIONS, range(PARTITIONS), since)]


def reached(kafka: str, goal: int) -> bool:
    """Whether so many decisions are committed."""
    return len(decisions(kafka)) >= goal


async def test_a_killed_router_neither_forgets_nor_repeats(kafka: str, postgres: str, tmp_path: Path) -> None:
    """Six kills in the middle of the work: every record has one decision, every delivery one record."""
    apply(kafka, table(PARTITIONS), 1)
    connection = await asyncpg.connect(postgres)
    await migrate(connection)
    await save_profiles(connection, [profile(f"u-{n}", channels=["sms"]) for n in range(USERS)])
    await connection.close()
    before = len(decisions(kafka))
    async with Client(kafka, catalogue=catalogue(Settings()).types) as client:
        events = [
            new_event(
                "flight.cancelled",
                tenant="acme",
                user_id=f"u-{n % USERS}",
                event_id=f"{tmp_path.name}-{n % (EVENTS * 9 // 10)}",
                data=FLIGHT,
            )
            for n in range(EVENTS)
        ]
        await client.publish_many(events)
    for kill in range(1, 7):
        goal = before + kill * EVENTS // 8
        with router(kafka, postgres, tmp_path / "route.log") as process:
            until(partial(reached, kafka, goal), 60, 0.2)
            os.kill(process.pid, signal.SIGKILL)
    with router(kafka, postgres, tmp_path / "route.log"):
        until(partial(reached, kafka, before + EVENTS), 60, 0.2)
    found = decisions(kafka)
    sources = Counter((d.source_topic, d.source_partition, d.source_offset) for d in found)
    assert max(sources.values()) == 1
    ours = [d for d in found if d.event_id.startswith(tmp_path.name)]
    assert len(ours) == EVENTS
    assert Counter(d.verdict for d in ours) == {"deliver": EVENTS * 9 // 10, "duplicate": EVENTS // 10}
    since = datetime.now(UTC) - timedelta(hours=1)  # noqa: TID251 - a test's own clock
    written = values(kafka, deliver("sms", "normal"), range(PARTITIONS), since)
    times = Counter(WIRE.decode(Delivery, value).delivery_id for value in written)
    assert all(times[planned.delivery_id] == 1 for d in ours for planned in d.deliveries)
