"""The relay on a real PostgreSQL and a real Kafka."""

import asyncio
import time
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

import asyncpg
import pytest

from pipeline.adapters.kafka.produce import KafkaProducer
from pipeline.adapters.postgres.outbox import PostgresOutbox
from pipeline.adapters.postgres.pool import close, connect, session, transaction
from pipeline.adapters.postgres.waiting import release
from pipeline.adapters.wire.codec import Wire
from pipeline.adapters.wire.ids import LockFile
from pipeline.model.errors import DependencyDown
from pipeline.model.event import Event
from pipeline.model.shares import SHARES
from pipeline.sdk import new_event, outbox
from pipeline.stages.relay.step import run
from tests.support.database import dump, migrated
from tests.support.eventually import eventually
from tests.support.make import CATALOGUE, NOW
from tests.support.topics import create_topics, read_tenant

pytestmark = pytest.mark.integration
WIRE = Wire(LockFile())
TOPIC = "notification.events.normal"
DEADLINE = 60.0  # seconds


def made(tenant: str, number: int, user: str = "u-1") -> Event:
    """A valid event."""
    data = {"flight": f"UA {number}"}
    return new_event(
        "flight.cancelled", tenant=tenant, user_id=user, data=data, event_id=f"e-{number}", created_at=NOW
    )


async def put(pool: asyncpg.Pool, *events: Event) -> None:
    """Commit events in one transaction."""
    async with transaction(pool) as connection:
        for event in events:
            await outbox.enqueue(connection, event, catalogue=CATALOGUE)


async def arrived(kafka: str, tenant: str, user: str = "u-1") -> list[str]:
    """The ids of a user's records in the order of the topic."""
    messages = await asyncio.to_thread(read_tenant, kafka, TOPIC, tenant)
    values = [m.value() for m in messages if m.key() == f"{tenant}/{user}".encode()]
    return [WIRE.decode(Event, value).event_id for value in values if isinstance(value, bytes)]


async def roll_back(pool: asyncpg.Pool, event: Event) -> None:
    """Enqueue an event in a transaction that fails."""
    async with transaction(pool) as connection:
        await outbox.enqueue(connection, event, catalogue=CATALOGUE)
        raise ZeroDivisionError


async def drained(pool: asyncpg.Pool) -> None:
    """Wait until no row waits."""

    async def empty() -> bool:
        async with session(pool) as c:
            return await c.fetchval("select count(*) = 0 from everpost.outbox")

    await eventually(empty)


@asynccontextmanager
async def relaying(dsn: str, kafka: str) -> AsyncGenerator[PostgresOutbox]:
    """A relay that runs meanwhile, with a pool of its own as a process has."""
    pool, stop = await connect(dsn), asyncio.Event()
    producer = await KafkaProducer.open(kafka, client_id="test-relay")
    table = PostgresOutbox(pool)
    task = asyncio.create_task(run(table, producer, stop=stop))
    try:
        yield table
    finally:
        stop.set()
        await asyncio.wait_for(task, DEADLINE)
        await table.aclose()
        await producer.aclose()
        await close(pool)


async def test_every_committed_event_arrives_in_order_and_no_other(postgres: str, kafka: str) -> None:
    """Final bytes, key and trace as the door wrote them; what was rolled back never shows."""
    create_topics(kafka)
    events = [made("relay-order", n) for n in range(300)]
    async with migrated(postgres) as pool, relaying(postgres, kafka):
        for start in range(0, 300, 50):
            await put(pool, *events[start : start + 50])
            with pytest.raises(ZeroDivisionError):
                await roll_back(pool, made("relay-order", 1000 + start))
        await drained(pool)
    assert await arrived(kafka, "relay-order") == [event.event_id for event in events]


async def test_a_late_committer_with_a_smaller_number_is_not_skipped(postgres: str, kafka: str) -> None:
    """A cursor over the sequence would lose it: numbers are given before the commit."""
    create_topics(kafka)
    async with migrated(postgres) as pool, relaying(postgres, kafka):
        async with transaction(pool) as early:
            await outbox.enqueue(early, made("relay-late", 1), catalogue=CATALOGUE)
            await put(pool, made("relay-late", 2))
            await eventually(lambda: arrived(kafka, "relay-late"))
        await drained(pool)
    assert await arrived(kafka, "relay-late") == ["e-2", "e-1"]


async def test_several_relays_whose_sessions_are_cut_keep_every_order(postgres: str, kafka: str) -> None:
    """The sessions of all of them are cut again and again: nothing is lost, first copies stay in order."""
    create_topics(kafka)
    cut = (
        "select pg_terminate_backend(pid) from pg_locks "
        "where locktype = 'advisory' and database = (select oid from pg_database where datname = current_database())"
    )
    events = [made("relay-cut", n, f"u-{n % 5}") for n in range(400)]
    async with (
        migrated(postgres) as pool,
        relaying(postgres, kafka),
        relaying(postgres, kafka),
        relaying(postgres, kafka),
    ):
        for start in range(0, 400, 40):
            await put(pool, *events[start : start + 40])
            async with session(pool) as connection:
                await connection.execute(cut)
        await drained(pool)
    for user in {event.user_id for event in events}:
        ids = await arrived(kafka, "relay-cut", user)
        assert list(dict.fromkeys(ids)) == [e.event_id for e in events if e.user_id == user]


async def test_two_divide_the_table_and_one_takes_all_when_the_other_leaves(postgres: str) -> None:
    """Each gets the rows of its own shares alone, and they part them evenly."""
    async with migrated(postgres) as pool:
        await put(pool, *(made("relay-two", n, f"u-{n}") for n in range(100)))
        first, second = PostgresOutbox(pool), PostgresOutbox(pool)

        async def parted() -> bool:
            await first.claim(1)
            await second.claim(1)
            return len(first.held) == len(second.held) == SHARES // 2

        try:
            assert len(await first.claim(1600)) == 100
            await eventually(parted)
            ones, others = await first.claim(1600), await second.claim(1600)
            assert ones
            assert others
            assert len({row.id for row in ones} | {row.id for row in others}) == 100
            assert not {row.key for row in ones} & {row.key for row in others}
            await first.aclose()

            async def all_of_it() -> bool:
                return len(await second.claim(1600)) == 100

            await eventually(all_of_it)
        finally:
            await first.aclose()
            await second.aclose()


async def test_who_is_silent_loses_its_shares_and_can_settle_nothing(postgres: str) -> None:
    """A relay that hangs is cut off by the server after its lease, and its rows are another one's."""
    async with migrated(postgres) as pool:
        await put(pool, made("relay-silent", 1))
        hung, other = PostgresOutbox(pool, lease=0.5), PostgresOutbox(pool)
        try:
            (row,) = await hung.claim(10)
            time.sleep(1.5)  # noqa: ASYNC251  # the whole process hangs, its event loop too

            async def taken_over() -> bool:
                return bool(await other.claim(10))

            await eventually(taken_over)
            with pytest.raises(DependencyDown):
                await hung.settle([row.id])
            await other.settle([row.id])
            assert await other.claim(10) == []
        finally:
            await hung.aclose()
            await other.aclose()


async def test_a_commit_wakes_the_relay(postgres: str) -> None:
    """Nobody waits for the next look; a row that came since the last claim is noticed as well."""
    async with migrated(postgres) as pool:
        table = PostgresOutbox(pool)
        await table.claim(10)
        waiting = asyncio.create_task(table.wait(DEADLINE))
        await put(pool, made("relay-wake", 1))
        await asyncio.wait_for(waiting, DEADLINE / 2)
        await asyncio.wait_for(table.wait(DEADLINE), DEADLINE / 2)
        await table.aclose()


async def test_a_poison_row_is_parked_and_can_be_released(postgres: str, kafka: str) -> None:
    """It blocks nobody, keeps its reason, and goes out once its cause is mended."""
    create_topics(kafka)
    async with migrated(postgres) as pool:
        async with relaying(postgres, kafka):
            async with transaction(pool) as c:
                await outbox.enqueue(c, made("relay-poison", 1), catalogue=CATALOGUE)
                await c.execute("update everpost.outbox set aggregatetype = 'no.such.topic'")
            await put(pool, made("relay-poison", 2))
            await drained(pool)
        (parked,) = (await dump(pool, "outbox_parked"))["outbox_parked"]
        assert "no.such.topic" in parked["error"]
        assert await arrived(kafka, "relay-poison") == ["e-2"]
        async with session(pool) as c:
            await c.execute("update everpost.outbox_parked set aggregatetype = $1", TOPIC)
            assert await release(c) == 1
        async with relaying(postgres, kafka):
            await drained(pool)
    assert await arrived(kafka, "relay-poison") == ["e-2", "e-1"]
