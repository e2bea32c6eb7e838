"""The account stage on a real Kafka and a real PostgreSQL."""

import asyncio

import asyncpg
import pytest

from pipeline.adapters.kafka.consume import KafkaConsumer
from pipeline.adapters.kafka.produce import KafkaProducer
from pipeline.adapters.postgres.log import PostgresLog
from pipeline.adapters.wire.codec import Wire
from pipeline.adapters.wire.ids import LockFile
from pipeline.model.decision import Planned
from pipeline.model.event import user_key
from pipeline.model.record import Outgoing
from pipeline.model.topics import DEAD, DECISIONS, OUTCOMES
from pipeline.stages.account.step import TOPICS, run
from tests.support.database import dump, migrated
from tests.support.eventually import eventually
from tests.support.log import decision, outcome
from tests.support.topics import create_topics, lag, read_tenant

pytestmark = pytest.mark.integration
WIRE = Wire(LockFile())
TENANT = "account-stage"
DEADLINE = 60.0  # seconds


def records() -> list[Outgoing]:
    """Fifty decisions with two deliveries each, an outcome a delivery, and something that nobody can read."""
    found: list[Outgoing] = []
    for n in range(50):
        key = user_key(TENANT, f"u-{n % 5}")
        ids = [f"{TENANT}-{n}-sms", f"{TENANT}-{n}-email"]
        planned = (
            Planned(delivery_id=ids[0], channel="sms", address_id="a-1"),
            Planned(delivery_id=ids[1], channel="email", address_id="a-2"),
        )
        # Places of its own: the log knows a decision by its source, and the broker is shared.
        made = decision(
            f"{TENANT}-{n}",
            f"u-{n % 5}",
            tenant=TENANT,
            source_topic=TENANT,
            source_offset=n,
            deliveries=planned,
        )
        found.append(Outgoing(topic=DECISIONS, key=key, value=WIRE.encode(made)))
        for id in ids:
            attempt = outcome(
                id, event_id=made.event_id, user_id=made.user_id, tenant=TENANT, source_offset=n
            )
            found.append(Outgoing(topic=OUTCOMES, key=key, value=WIRE.encode(attempt)))
    found.append(Outgoing(topic=OUTCOMES, key=user_key(TENANT, "u-1"), value=b"no record of ours"))
    return found


async def feed(kafka: str) -> None:
    """Put all of it on its topics."""
    producer = await KafkaProducer.open(kafka, client_id="test-account-feed")
    try:
        await producer.send_all(records())
    finally:
        await producer.aclose()


async def account(dsn: str, kafka: str, group: str) -> None:
    """Run the stage until its group has read everything there is, then stop it."""
    consumer = await KafkaConsumer.open(kafka, TOPICS, group=group, instance="0")
    producer = await KafkaProducer.open(kafka, client_id="test-account")
    stop = asyncio.Event()

    async def read_all() -> bool:
        return task.done() or not await asyncio.to_thread(lag, kafka, group, TOPICS)

    async with migrated(dsn) as pool:
        task = asyncio.create_task(run(consumer, WIRE, PostgresLog(pool), producer, stop=stop, limit=20))
        try:
            await eventually(read_all, DEADLINE)
        finally:
            stop.set()
            await asyncio.wait_for(task, DEADLINE)
            await consumer.aclose()
            await producer.aclose()


async def test_lost_connections_lose_no_record(postgres: str, kafka: str) -> None:
    """PostgreSQL cuts every connection again and again while the stage works: the rows are all there."""
    create_topics(kafka)
    await feed(kafka)
    cut = "select count(pg_terminate_backend(pid)) from pg_stat_activity where pid <> pg_backend_pid() and datname = $1"
    async with migrated(postgres):
        own = await asyncpg.connect(postgres)
    working = asyncio.create_task(account(postgres, kafka, "test-account-cut"))
    try:
        await eventually(lambda: own.fetchval("select count(*) from everpost.decision_log"))
        cuts = 0
        while not working.done():
            cuts += await own.fetchval(cut, await own.fetchval("select current_database()"))
            await asyncio.wait({working}, timeout=0.3)
        await working
    finally:
        working.cancel()
        await own.close()
    assert cuts > 0
    async with migrated(postgres) as pool:
        tables = await dump(pool, "decision_log", "delivery_log", "attempt_log")
    mine = {
        name: [row for row in rows if row.get("tenant", TENANT) == TENANT] for name, rows in tables.items()
    }
    assert len(mine["decision_log"]) == 50
    assert {row["state"] for row in mine["delivery_log"]} == {"delivered"}
    assert (
        len(
            {row["delivery_id"] for row in mine["attempt_log"]}
            & {row["delivery_id"] for row in mine["delivery_log"]}
        )
        == 100
    )


async def test_records_become_rows_and_again_the_same_rows(postgres: str, kafka: str) -> None:
    """Through the real topics in small batches; a second group reads all of it once more."""
    create_topics(kafka)
    await feed(kafka)
    tables = ("decision_log", "delivery_log", "attempt_log")
    await account(postgres, kafka, "test-account-1")
    async with migrated(postgres) as pool:
        first = await dump(pool, *tables)
    await account(postgres, kafka, "test-account-2")
    async with migrated(postgres) as pool:
        assert await dump(pool, *tables) == first
    mine = [row for row in first["delivery_log"] if row["tenant"] == TENANT]
    assert len(mine) == 100
    dead = await asyncio.to_thread(read_tenant, kafka, DEAD, TENANT)
    assert dead[0].value() == b"no record of ours"
    assert dict(dead[0].headers() or [])["__dlq.errors.stage"] == b"account"
