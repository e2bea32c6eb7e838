"""Both doors on a real PostgreSQL and a real Kafka."""

import asyncio
import subprocess
import sys
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

import asyncpg
import pytest
from aiokafka import AIOKafkaProducer
from structlog.testing import capture_logs

from pipeline.adapters.postgres.pool import session
from pipeline.adapters.wire.codec import Wire
from pipeline.adapters.wire.ids import LockFile
from pipeline.model.errors import BrokerUnavailable, CallerError, InvalidEvent, NotInTransaction
from pipeline.model.event import Event
from pipeline.sdk import Client, Receipt, new_event, outbox
from tests.support.database import dump, migrated
from tests.support.make import CATALOGUE, NOW
from tests.support.refusing import refusing
from tests.support.topics import create_topics, read_tenant

pytestmark = pytest.mark.integration
WIRE = Wire(LockFile())
NOBODY = "127.0.0.1:1"


def made(number: int, tenant: str = "acme", user: str = "u-1") -> Event:
    """A valid event, made by the helper that callers use."""
    data = {"flight": f"UA {number}"}
    return new_event(
        "flight.cancelled", tenant=tenant, user_id=user, data=data, event_id=f"e-{number}", created_at=NOW
    )


@asynccontextmanager
async def connected(dsn: str) -> AsyncGenerator[tuple[asyncpg.Pool, asyncpg.Connection]]:
    """A migrated database, its pool, and a connection of the caller's own."""
    async with migrated(dsn) as pool:
        connection = await asyncpg.connect(dsn)
        try:
            yield pool, connection
        finally:
            await connection.close()


async def roll_back(connection: asyncpg.Connection, event: Event) -> None:
    """Enqueue an event in a transaction that fails."""
    async with connection.transaction():
        await outbox.enqueue(connection, event, catalogue=CATALOGUE)
        raise ZeroDivisionError


async def test_an_event_is_queued_exactly_when_its_transaction_commits(postgres: str) -> None:
    """A rollback takes the event with it; on a connection, and on one of a pool."""
    async with connected(postgres) as (pool, own):
        with pytest.raises(ZeroDivisionError):
            await roll_back(own, made(1))
        async with own.transaction():
            await outbox.enqueue(own, made(2), catalogue=CATALOGUE)
        async with pool.acquire() as proxy, proxy.transaction():
            queued = await outbox.enqueue(proxy, made(3), catalogue=CATALOGUE)
        rows = (await dump(pool, "outbox"))["outbox"]
    assert sorted(row["event_id"] for row in rows) == ["e-2", "e-3"]
    assert (queued.event_id, queued.topic, queued.duplicate) == ("e-3", "notification.events.normal", False)


async def test_a_row_is_what_debezium_and_the_relay_expect(postgres: str) -> None:
    """Topic, key, type and the final bytes, under the names of Debezium's EventRouter."""
    async with connected(postgres) as (pool, own):
        sent = made(1)
        async with own.transaction():
            queued = await outbox.enqueue(own, sent, catalogue=CATALOGUE)
        (row,) = (await dump(pool, "outbox"))["outbox"]
    assert (row["aggregatetype"], row["aggregateid"]) == ("notification.events.normal", "acme/u-1")
    assert (row["type"], str(row["id"])) == ("flight.cancelled", queued.outbox_id)
    assert WIRE.decode(Event, row["payload"]) == sent


async def test_outside_a_transaction_it_refuses(postgres: str) -> None:
    """Autocommit would let the event live when the caller's own work does not."""
    async with connected(postgres) as (pool, own):
        with pytest.raises(NotInTransaction, match="call it inside"):
            await outbox.enqueue(own, made(1), catalogue=CATALOGUE)
        async with session(pool) as proxy:
            with pytest.raises(NotInTransaction):
                await outbox.enqueue(proxy, made(1), catalogue=CATALOGUE)


async def test_a_refused_event_leaves_the_transaction_usable(postgres: str) -> None:
    """Everything that can be refused is refused before the database is touched."""
    async with connected(postgres) as (pool, own):
        async with own.transaction():
            with pytest.raises(InvalidEvent):
                await outbox.enqueue(
                    own, new_event("no.such", tenant="acme", user_id="u", data={}), catalogue=CATALOGUE
                )
            await outbox.enqueue(own, made(1), catalogue=CATALOGUE)
        assert len((await dump(pool, "outbox"))["outbox"]) == 1


async def test_the_same_event_twice_is_one_row(postgres: str) -> None:
    """A caller may do a whole transaction again; another user's same id is another event."""
    async with connected(postgres) as (pool, own):
        found: list[bool] = []
        for event in (made(1), made(1), made(1, user="u-2")):
            async with own.transaction():
                found.append((await outbox.enqueue(own, event, catalogue=CATALOGUE)).duplicate)
        assert found == [False, True, False]
        assert len((await dump(pool, "outbox"))["outbox"]) == 2


async def test_a_receipt_says_where_the_event_stands(kafka: str) -> None:
    """`publish` returns when Kafka has the record; the record is there, under the user's key."""
    create_topics(kafka)
    sent = made(1, tenant="sdk-receipt")
    async with Client(kafka, catalogue=CATALOGUE) as everpost:
        receipt = await everpost.publish(sent)
    (message,) = await asyncio.to_thread(read_tenant, kafka, receipt.topic, "sdk-receipt")
    assert (message.partition(), message.offset()) == (receipt.partition, receipt.offset)
    assert message.key() == b"sdk-receipt/u-1"
    assert WIRE.decode(Event, _value(message.value())).event_id == receipt.event_id == "e-1"


def _value(value: object) -> bytes:
    assert isinstance(value, bytes)
    return value


async def test_many_events_keep_their_order_per_user(kafka: str) -> None:
    """Through a buffer that is much smaller than the batch; receipts come in the order of the events."""
    create_topics(kafka)
    events = [made(n, tenant="sdk-many", user=f"u-{n % 7}") for n in range(2000)]
    async with Client(kafka, catalogue=CATALOGUE, buffer=50) as everpost:
        receipts = await everpost.publish_many(events)
    assert [r.event_id for r in receipts] == [e.event_id for e in events]
    messages = await asyncio.to_thread(read_tenant, kafka, receipts[0].topic, "sdk-many")
    for user in {e.user_id for e in events}:
        arrived = [
            WIRE.decode(Event, _value(m.value())) for m in messages if m.key() == f"sdk-many/{user}".encode()
        ]
        assert [e.event_id for e in arrived] == [e.event_id for e in events if e.user_id == user]


async def test_both_libraries_put_a_user_into_the_same_partition(kafka: str) -> None:
    """Duplicates and order break silently when the publisher and the relay disagree about a key."""
    create_topics(kafka)
    producer = AIOKafkaProducer(bootstrap_servers=kafka)
    await producer.start()
    try:
        async with Client(kafka, catalogue=CATALOGUE) as everpost:
            for number in range(20):
                event = made(number, tenant="sdk-partition", user=f"user-{number}-ü")
                ours = await everpost.publish(event)
                theirs = await producer.send_and_wait(ours.topic, b"x", key=event.key)
                assert ours.partition == theirs.partition
    finally:
        await producer.stop()


async def test_what_is_acknowledged_stands_where_the_receipt_says(kafka: str) -> None:
    """Also of a broker that refuses the first write and takes the second: no later success vouches for the first."""
    create_topics(kafka)
    events = [made(n, tenant="sdk-refused") for n in range(20)]
    async with refusing(kafka) as servers, Client(servers, catalogue=CATALOGUE) as everpost:
        await everpost.publish(made(0, tenant="sdk-other", user="u-2"))  # connected, in another partition
        publishing: list[asyncio.Task[Receipt]] = []
        for event in events:  # one by one: several requests, all to one partition
            publishing.append(asyncio.create_task(everpost.publish(event)))
            await asyncio.sleep(0.02)
        receipts = await asyncio.wait_for(asyncio.gather(*publishing), 60)
    messages = await asyncio.to_thread(read_tenant, kafka, receipts[0].topic, "sdk-refused")
    stands = {WIRE.decode(Event, _value(m.value())).event_id: (m.partition(), m.offset()) for m in messages}
    assert {r.event_id: (r.partition, r.offset) for r in receipts} == stands


async def test_no_broker_is_said_in_time() -> None:
    """The caller's deadline holds, and the error says that a repeat is harmless."""
    async with Client(NOBODY, catalogue=CATALOGUE, timeout=1.0) as everpost:
        with pytest.raises(BrokerUnavailable, match="publish the same event again"):
            await asyncio.wait_for(everpost.publish(made(1)), 60)


async def test_leaving_early_says_how_many_were_given_up() -> None:
    """What Kafka has not acknowledged may be lost: the count is logged, and who waits is told."""
    client = Client(NOBODY, catalogue=CATALOGUE)
    waiting = [asyncio.create_task(client.publish(made(n))) for n in range(3)]
    await asyncio.sleep(0)
    with capture_logs() as logs:
        await client.aclose(0.1)
    errors = await asyncio.gather(*waiting, return_exceptions=True)
    assert [type(error) for error in errors] == [BrokerUnavailable] * 3
    assert [(log["event"], log["count"]) for log in logs] == [("publish.abandoned", 3)]


async def test_a_closed_client_says_so() -> None:
    """It is not opened again by accident."""
    async with Client(NOBODY, catalogue=CATALOGUE) as everpost:
        pass
    with pytest.raises(CallerError, match="closed"):
        await everpost.publish(made(1))


def test_nothing_connects_at_import() -> None:
    """Importing the doors opens no socket, even where there is no network."""
    program = "import socket; socket.socket.connect = None; import pipeline.sdk"
    subprocess.run([sys.executable, "-c", program], check=True, timeout=30)
