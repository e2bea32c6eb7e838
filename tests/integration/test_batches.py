"""The relay's producer on a real broker: nothing twice, nothing out of place, nothing taken for written."""

import asyncio
import secrets
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager

import pytest

from pipeline.adapters.kafka.batches import BatchProducer
from pipeline.model.errors import DependencyDown, PayloadTooLarge
from pipeline.model.record import Outgoing
from pipeline.model.topics import ENGAGEMENT
from tests.integration.test_kafka_asyncio import frozen
from tests.support.refusing import refusing
from tests.support.topics import create_topics, read_tenant

pytestmark = pytest.mark.integration
DEADLINE = 60.0  # seconds


@pytest.fixture(autouse=True, scope="module")
def topics(kafka: str) -> None:
    """All topics are there."""
    create_topics(kafka)


@asynccontextmanager
async def producing(kafka: str, deadline: float = 30.0) -> AsyncGenerator[BatchProducer]:
    """A producer."""
    producer = BatchProducer(kafka, client_id="test", deadline=deadline)
    try:
        yield producer
    finally:
        await producer.aclose()


def record(tenant: str, value: bytes, *, traced: bool = False, user: str = "u") -> Outgoing:
    """A record of a user."""
    headers = (("traceparent", b"00-1-1-01"),) if traced else ()
    return Outgoing(topic=ENGAGEMENT, key=f"{tenant}/{user}".encode(), value=value, headers=headers)


async def written(kafka: str, tenant: str) -> Sequence[bytes | str | None]:
    """The values of a tenant, in the order of each partition."""
    return [message.value() for message in await asyncio.to_thread(read_tenant, kafka, ENGAGEMENT, tenant)]


async def test_a_batch_keeps_its_order_with_and_without_headers(kafka: str) -> None:
    """Records with a trace go another way into the client, and stay in their places all the same."""
    tenant = f"batch-{secrets.token_hex(6)}"
    records = [record(tenant, b"%d" % number, traced=number % 3 == 0) for number in range(2_000)]
    async with producing(kafka) as producer:
        await producer.send_all(records)
    messages = await asyncio.to_thread(read_tenant, kafka, ENGAGEMENT, tenant)
    assert [message.value() for message in messages] == [one.value for one in records]
    assert [bool(message.headers()) for message in messages] == [bool(one.headers) for one in records]


async def test_what_a_returning_broker_refuses_is_not_taken_for_written(kafka: str) -> None:
    """The first write is refused and the second one taken (0009): all of it is there, once, in order."""
    tenant = f"batch-{secrets.token_hex(6)}"
    values = [secrets.token_bytes(400_000) for _ in range(8)]
    async with refusing(kafka) as servers, producing(servers) as producer:
        await producer.send_all([record(tenant, value) for value in values])
    assert await written(kafka, tenant) == values


async def test_too_large_is_told_by_name_and_the_producer_goes_on(kafka: str) -> None:
    """Above the client's limit and above the broker's."""
    tenant = f"batch-{secrets.token_hex(6)}"
    async with producing(kafka) as producer:
        for size in (2_200_000, 4_000_000):
            with pytest.raises(PayloadTooLarge):
                await producer.send_all([record(tenant, secrets.token_bytes(size))])
        await producer.send_all([record(tenant, b"1")])
    assert await written(kafka, tenant) == [b"1"]


async def test_a_broker_that_hangs_is_told_nothing_twice(kafka: str) -> None:
    """After a deadline the same records are waited for, not written again; equal ones stay two."""
    tenant = f"batch-{secrets.token_hex(6)}"
    records = [record(tenant, value) for value in (b"1", b"2", b"2", b"3")]
    async with producing(kafka, deadline=1.0) as producer:
        await producer.send_all([record(tenant, b"0")])
        with frozen(kafka):
            for _ in range(2):
                with pytest.raises(DependencyDown, match="not acknowledged 4 records"):
                    await producer.send_all(records)
        async with asyncio.timeout(DEADLINE):
            while not await succeeds(producer, records):
                continue
        await producer.send_all([record(tenant, b"4")])
    assert await written(kafka, tenant) == [b"0", b"1", b"2", b"2", b"3", b"4"]


async def succeeds(producer: BatchProducer, records: Sequence[Outgoing]) -> bool:
    """One more try."""
    try:
        await producer.send_all(records)
    except DependencyDown:
        return False
    return True


async def test_nobody_there(monkeypatch: pytest.MonkeyPatch) -> None:
    """A broker that is not there is a dependency that is down, and nothing is taken for written."""
    monkeypatch.setattr("pipeline.adapters.kafka.batches._START", 0.5)
    with pytest.raises(DependencyDown, match=r"127\.0\.0\.1:1 does not answer"):
        await BatchProducer.open("127.0.0.1:1", client_id="test")
