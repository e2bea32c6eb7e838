"""`python -m benchmarks.replay`: dead letters sent again, unthrottled and at a set rate, by the real command's parts.

A fresh broker and database; every letter is a delivery of a user and an event of its own. The first run
is unthrottled, and read back: each delivery must be on its channel's topic exactly once. Other letters
then go at a rate that the machine can keep, and the error of it is told.
"""

import asyncio
import sys
import tempfile
from collections import Counter
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from uuid import NAMESPACE_OID, uuid5

import cyclopts
import orjson
from confluent_kafka import Producer

from infra.embedded import stack
from pipeline import settings
from pipeline.adapters.kafka.admin import apply
from pipeline.adapters.kafka.ranges import RangeReader, freeze
from pipeline.adapters.postgres import pool
from pipeline.adapters.postgres.migrate import migrate
from pipeline.adapters.postgres.replays import PostgresReplays
from pipeline.adapters.wire.codec import Wire
from pipeline.adapters.wire.ids import LockFile
from pipeline.cli.dead.compose import sketcher, work
from pipeline.model.dead import Cause, dead_letter
from pipeline.model.delivery import Delivery, delivery_id
from pipeline.model.event import Event, user_key
from pipeline.model.record import Incoming, Outgoing
from pipeline.model.replay import Pace, Range, Run, Selection, Terms
from pipeline.model.topics import DEAD, deliver, table
from pipeline.stages.replay.tools import Told
from pipeline.wiring import clock

TARGET = 50_000.0  # letters a second
TOLERANCE = 0.02  # of the rate
_TENANT = "bench"
_TOPIC = deliver("sms", "bulk")
_SECONDS = 20  # of the run at a set rate
_WIRE = Wire(LockFile())


@contextmanager
def stage(cache: Path) -> Generator[stack.Stack]:
    """A fresh broker and database."""
    with tempfile.TemporaryDirectory(prefix="everpost-bench-") as name:
        Path(name).chmod(0o755)  # PostgreSQL's own user must get in
        with stack.up(Path(name) / "home", cache=cache, report=lambda _line: None) as running:
            yield running


async def prepare(running: stack.Stack) -> None:
    """Topics and tables."""
    apply(running.bootstrap_servers, table(4), 1)
    connections = await pool.connect(running.postgres_dsn)
    async with pool.session(connections) as connection:
        await migrate(connection)
    await pool.close(connections)


def fill(servers: str, first: int, count: int) -> None:
    """So many letters of deliveries that have used up their ladder."""
    producer = Producer(
        {
            "bootstrap.servers": servers,
            "partitioner": "murmur2_random",
            "linger.ms": 20,
            "compression.type": "lz4",
            "queue.buffering.max.messages": 200_000,
        }
    )
    for number in range(first, first + count):
        letter = _letter(number)
        while True:
            try:
                producer.produce(DEAD, letter.value, letter.key, headers=list(letter.headers))
                break
            except BufferError:
                producer.poll(0.1)
    producer.flush(60)


def _letter(number: int) -> Outgoing:
    delivery, now = _delivery(number), clock()
    source = Incoming(
        topic=_TOPIC,
        partition=0,
        offset=number,
        key=user_key(_TENANT, delivery.user_id),
        value=_WIRE.encode(delivery),
        at=now,
    )
    cause = Cause(
        disposition="exhausted",
        message="busy (1)",
        attempts=6,
        provider="vonage",
        code="1",
        first_at=now,
        last_at=now,
    )
    return dead_letter(source, cause, group="everpost.send.sms", stage="send")


def _delivery(number: int) -> Delivery:
    now, user = clock(), f"u{number}"
    event = Event(
        event_id=f"e{number}",
        user_id=user,
        tenant=_TENANT,
        type="order.shipped",
        created_at=now,
        data={"order": "123", "name": "Kim", "carrier": "DHL", "eta": "tomorrow"},
    )
    address_id = str(uuid5(NAMESPACE_OID, user))
    return Delivery(
        delivery_id=delivery_id(_TENANT, user, event.event_id, "sms", address_id),
        event_id=event.event_id,
        user_id=user,
        tenant=_TENANT,
        type=event.type,
        category="orders",
        channel="sms",
        lane="bulk",
        address_id=address_id,
        address="+19175550100",
        locale="en",
        template_version=1,
        attempt=6,
        first_attempt_at=now,
        decided_at=now,
        event=_WIRE.encode(event),
    )


async def run(current: settings.Settings, name: str, ranges: Sequence[Range], pace: Pace) -> Told:
    """One run, as `everpost dead replay` does it."""
    made = Run(
        run_id=name,
        kind="replay",
        who="benchmark",
        why="benchmark",
        at=clock(),
        ranges=tuple(ranges),
        selection=Selection(),
        pace=pace,
        terms=Terms(),
    )
    connections = await pool.connect(current.postgres_dsn.get_secret_value())
    await PostgresReplays(connections).add(made)
    await pool.close(connections)
    return await work(current, made, "benchmark", lambda _told: None)


def added(servers: str, first: int, count: int) -> Sequence[Range]:
    """Write so many letters, and say where they are."""
    before = {r.partition: r.end for r in freeze(servers, [DEAD], None)}
    fill(servers, first, count)
    return [replace(r, first=before.get(r.partition, 0)) for r in freeze(servers, [DEAD], None)]


def repeats(current: settings.Settings, expected: int) -> int:
    """How many deliveries are on their topic more than once; those that are missing count too."""
    servers, contents = current.bootstrap_servers, sketcher(current)
    reader = RangeReader(servers, freeze(servers, [_TOPIC], None), {})
    seen = Counter[str]()
    try:
        while letters := reader.read(10_000):
            seen.update(contents.sketch(one).delivery_id for one in letters)
    finally:
        reader.close()
    return sum(seen.values()) - len(seen) + abs(expected - len(seen))


def main(*, letters: int = 1_000_000, rate: float = 2_000.0, json: bool = False) -> int:
    """Send the letters again and print what came of it; exit code 0 when both targets are met."""
    slow = int(rate * _SECONDS)
    with stage(settings.load().home / "cache") as running:
        asyncio.run(prepare(running))
        current = settings.Settings(
            bootstrap_servers=running.bootstrap_servers,
            postgres_dsn=running.postgres_dsn,  # pyright: ignore[reportArgumentType] - pydantic hides it
            catalogue=Path(__file__).parent / "catalogue",
        )
        first = added(running.bootstrap_servers, 0, letters)
        fast = asyncio.run(run(current, "fast", first, Pace()))
        second = added(running.bootstrap_servers, letters, slow)
        paced = asyncio.run(run(current, "paced", second, Pace(rate=rate)))
        wrong = repeats(current, letters + slow)
    per_second = fast.counts.get("sent", 0) / fast.seconds
    error = abs(paced.counts.get("sent", 0) / paced.seconds / rate - 1)
    print(f"{letters:,} letters in {fast.seconds:.1f} s; {slow:,} at {rate:,.0f}/s in {paced.seconds:.2f} s")
    outcome = {"per_second": round(per_second), "duplicates": wrong, "rate_error": round(error, 4)}
    print(orjson.dumps(outcome).decode() if json else outcome)
    return 0 if per_second >= TARGET and not wrong and error <= TOLERANCE else 1


if __name__ == "__main__":
    app = cyclopts.App(default_command=main, result_action="return_value")
    sys.exit(app())
