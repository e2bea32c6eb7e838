"""What the relay's benchmark puts into the outbox, at once or at a steady rate, and what it finds in Kafka."""

import asyncio
import itertools
import multiprocessing
import time
from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from multiprocessing.connection import Connection
from uuid import UUID

import asyncpg
from confluent_kafka import Consumer, TopicPartition

from pipeline import settings
from pipeline.adapters.kafka.readback import values
from pipeline.adapters.postgres.pool import close, connect, session, transaction
from pipeline.adapters.postgres.shares import CLASS, MEMBER
from pipeline.adapters.wire.codec import Wire
from pipeline.adapters.wire.ids import LockFile
from pipeline.model.event import Event, Value
from pipeline.model.topics import events
from pipeline.sdk import outbox
from pipeline.wiring import catalogue, clock

TENANT = "bench"
TOPIC = events("normal")
PARTITIONS = 4
USERS = 20_000
_NUMBERS = itertools.count(1 << 64)
TICK = 0.005  # seconds between two looks at what is due
DATA: Mapping[str, Value] = {
    "flight": "UA 1234",
    "carrier": "United",
    "origin": "SFO",
    "destination": "JFK",
    "scheduled": "14:35",
    "delay_minutes": 45,
}
_WRITERS = 16  # transactions at once
_WIRE = Wire(LockFile())
OURS, PEERS = "everpost.outbox", "public.peer_outbox"  # tables
_PEERS = """
create table if not exists public.peer_outbox (
    id uuid primary key, aggregatetype text not null, aggregateid text not null, event_id text not null,
    type text not null, payload bytea not null, headers jsonb not null default '{}',
    seq bigint generated always as identity unique
)
"""
_FILL = """
insert into {table} (id, aggregatetype, aggregateid, event_id, type, payload)
select gen_random_uuid(), $1, $2 || '/u' || mod(n, $3::bigint), id, $4,
    overlay($5::bytea placing convert_to(id, 'UTF8') from $6::integer)
from generate_series($7::bigint, $8::bigint) n, lpad(n::text, 36, '0') id
"""
_HOLDERS = """
select count(*) filter (where objid <> $2::integer) from pg_locks
where locktype = 'advisory' and classid = $1::integer and granted
  and database = (select oid from pg_database where datname = current_database())
group by pid
"""


def event(user: str) -> Event:
    """An ordinary event, with an id of 36 characters."""
    return Event(
        event_id=str(UUID(int=next(_NUMBERS))),
        user_id=user,
        tenant=TENANT,
        type="flight.delayed",
        created_at=clock(),
        data=DATA,
    )


async def fill(pool: asyncpg.Pool, table: str, first: int, count: int) -> None:
    """Rows of so many events, made by PostgreSQL out of one: only the event's id and the key differ."""
    pattern = event("u0")
    payload = _WIRE.encode(pattern)
    place = payload.index(pattern.event_id.encode()) + 1
    step = 100_000
    async with session(pool) as connection:
        await connection.execute(_PEERS)
        for begin in range(first, first + count, step):
            end = min(begin + step, first + count) - 1
            await connection.execute(
                _FILL.format(table=table),
                TOPIC,
                TENANT,
                USERS,
                pattern.type,
                payload,
                place,
                begin,
                end,
                timeout=120,
            )


async def waiting(pool: asyncpg.Pool, table: str) -> bool:
    """Whether a row waits."""
    async with session(pool) as connection:
        return await connection.fetchval(f"select exists (select from {table})")  # one of two


async def holders(pool: asyncpg.Pool) -> list[int]:
    """How many shares each relay holds."""
    async with session(pool) as connection:
        return [held for (held,) in await connection.fetch(_HOLDERS, CLASS, MEMBER)]


async def steadily(dsn: str, rate: int, seconds: float) -> dict[str, float]:
    """Commit an event at a time, each in a transaction of its own; gives when each was committed."""
    pool, types = await connect(dsn, size=_WRITERS), catalogue(settings.load()).types
    committed: dict[str, float] = {}
    due: asyncio.Queue[Event | None] = asyncio.Queue()

    async def write() -> None:
        while (one := await due.get()) is not None:
            async with transaction(pool) as connection:
                await outbox.enqueue(connection, one, catalogue=types)
            committed[one.event_id] = time.time()  # noqa: TID251 - to be held against another process's clock

    began, first = time.monotonic(), 0
    async with asyncio.TaskGroup() as writers:
        for _ in range(_WRITERS):
            writers.create_task(write())
        while first < rate * seconds:
            upto = min(int((time.monotonic() - began) * rate) + 1, int(rate * seconds))
            for number in range(first, upto):
                due.put_nowait(event(f"u{number % USERS}"))
            first = upto
            await asyncio.sleep(TICK)
        for _ in range(_WRITERS):
            due.put_nowait(None)
    await close(pool)
    return committed


@dataclass(frozen=True, slots=True, kw_only=True)
class Watcher:
    """A reader of committed records in a process of its own."""

    told: Connection

    def until(self, count: int, seconds: float) -> dict[str, float]:
        """When each event was first read; TimeoutError when there are not so many in time."""
        self.told.send((count, seconds))
        found: dict[str, float] = self.told.recv()
        if len(found) < count:
            raise TimeoutError(f"{len(found):,} of {count:,} events have come to Kafka in {seconds} s")
        return found


@contextmanager
def watcher(servers: str) -> Generator[Watcher]:
    """One that reads from the present end of the topic on."""
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=_watch, args=(servers, theirs), daemon=True)
    process.start()
    try:
        assert ours.recv() == "ready"
        yield Watcher(told=ours)
    finally:
        process.terminate()
        process.join(10)
        ours.close()
        theirs.close()


def _watch(servers: str, told: Connection) -> None:
    consumer = Consumer(
        {
            "bootstrap.servers": servers,
            "group.id": "bench-watcher",
            "isolation.level": "read_committed",
            "enable.auto.commit": False,
            "fetch.wait.max.ms": 50,
        }
    )
    places = [TopicPartition(TOPIC, number) for number in range(PARTITIONS)]
    for place in places:
        place.offset = consumer.get_watermark_offsets(place, timeout=10)[1]
    consumer.assign(places)
    consumer.poll(0.5)
    told.send("ready")
    read: list[tuple[float, bytes | None]] = []
    wanted, until = 1 << 60, float("inf")
    while len(read) < wanted and time.monotonic() < until:
        messages = consumer.consume(500, 0.005)
        now = time.time()  # noqa: TID251 - held against the writers' clock
        read += [(now, message.value()) for message in messages]  # type: ignore[misc]
        if told.poll():
            wanted, seconds = told.recv()
            until = time.monotonic() + seconds
    consumer.close()
    found: dict[str, float] = {}
    for at, value in read:
        found.setdefault(_WIRE.decode(Event, value).event_id, at)
    told.send(found)


def in_kafka(servers: str) -> tuple[int, int]:
    """How many records the topic has, and how many different ones."""
    everything: Sequence[bytes] = list(
        values(servers, TOPIC, range(PARTITIONS), datetime(2020, 1, 1, tzinfo=UTC))
    )
    return len(everything), len(set(everything))
