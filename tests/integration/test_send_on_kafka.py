"""Senders on a real broker: killed, rebalanced, poisoned, paused; every delivery ends with its outcome."""

import asyncio
import secrets
from collections import Counter
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager

import pytest

from connectors.contract import ChannelFault, Transient
from pipeline.adapters.kafka.consume import KafkaConsumer
from pipeline.adapters.kafka.produce import KafkaProducer
from pipeline.model.delivery import Delivery
from pipeline.model.event import Channel, user_key
from pipeline.model.outcome import Outcome
from pipeline.model.record import Outgoing
from pipeline.model.topics import DEAD, OUTCOMES
from pipeline.stages.send.step import run, topics
from tests.support.make import event
from tests.support.sending import WIRE, Rig, ScriptedConnector, delivery, eventually, record
from tests.support.topics import create_topics, read_tenant

pytestmark = pytest.mark.integration
SECONDS = 60.0  # a rebalance on a busy machine
CHANNEL: Channel = "webpush"  # no other test of this broker sends on it


@pytest.fixture
def tenant(kafka: str) -> str:
    """Records of this test alone."""
    create_topics(kafka)
    return f"t{secrets.token_hex(6)}"


def made(tenant: str, number: int) -> Delivery:
    """One of many deliveries of twenty users."""
    return delivery(
        f"{tenant}-{number}",
        CHANNEL,
        tenant=tenant,
        user_id=f"u-{number % 20}",
        delivery_id=f"{tenant}-{number}",
        carried=event(f"{tenant}-{number}"),
    )


async def written(kafka: str, records: Sequence[Outgoing]) -> None:
    """Put records on their topics."""
    producer = await KafkaProducer.open(kafka, client_id="test")
    try:
        await producer.send_all(records)
    finally:
        await producer.aclose()


@asynccontextmanager
async def sending(
    kafka: str, tenant: str, connector: ScriptedConnector, instance: str = "0"
) -> AsyncGenerator[asyncio.Task[None]]:
    """A sender of the tenant's own group, stopped as by SIGTERM unless it was cancelled before."""
    producer = await KafkaProducer.open(kafka, client_id=f"{tenant}-{instance}")
    consumer = await KafkaConsumer.open(kafka, topics(CHANNEL), group=tenant, instance=instance)
    stop = asyncio.Event()
    task = asyncio.create_task(run(Rig(connector, channel=CHANNEL).sender(consumer, producer), stop))
    try:
        yield task
    finally:
        stop.set()
        done, _ = await asyncio.wait({task}, timeout=60)
        await consumer.aclose()
        await producer.aclose()
        assert done, "a sender leaves within a minute"


def ids(connector: ScriptedConnector) -> list[str]:
    """The delivery of each request."""
    return [message.delivery_id for message in connector.sent]


def outcomes(kafka: str, tenant: str) -> list[Outcome]:
    """The tenant's outcomes."""
    values = [message.value() for message in read_tenant(kafka, OUTCOMES, tenant)]
    return [WIRE.decode(Outcome, value) for value in values if isinstance(value, bytes)]


async def told(kafka: str, tenant: str, count: int) -> list[Outcome]:
    """The tenant's outcomes, once so many deliveries have one."""
    async with asyncio.timeout(SECONDS):
        while True:
            found = await asyncio.to_thread(outcomes, kafka, tenant)
            if len({one.delivery_id for one in found}) >= count:
                return found
            await asyncio.sleep(0.1)


async def test_a_killed_sender_repeats_what_was_in_flight(kafka: str, tenant: str) -> None:
    """Killed in the middle, its successor sends the rest: none is missing, and no more than the slots twice."""
    await written(kafka, [record(made(tenant, n)) for n in range(300)])
    connector = ScriptedConnector(only=tenant)
    connector.seconds = 0.01
    async with sending(kafka, tenant, connector) as task:
        await eventually(lambda: len(ids(connector)) >= 100, SECONDS)
        task.cancel()
    assert len(connector.sent) < 300
    async with sending(kafka, tenant, connector):
        found = await told(kafka, tenant, 300)
    sent = Counter(ids(connector))
    assert set(sent) == {f"{tenant}-{n}" for n in range(300)}
    assert sum(count - 1 for count in sent.values()) <= 20
    assert {one.state for one in found} == {"delivered"}


async def test_a_second_sender_takes_its_share(kafka: str, tenant: str) -> None:
    """A sender that joins while another works gets partitions, and the hand-over sends nothing twice."""
    await written(kafka, [record(made(tenant, n)) for n in range(1500)])
    connector, other = ScriptedConnector(only=tenant), ScriptedConnector(only=tenant)
    connector.seconds = other.seconds = 0.1  # 20 slots: 200 a second
    async with sending(kafka, tenant, connector):
        await eventually(lambda: len(ids(connector)) >= 100, SECONDS)
        async with sending(kafka, tenant, other, "1"):
            await told(kafka, tenant, 1500)
    sent = Counter(ids(connector) + ids(other))
    assert len(sent) == 1500
    assert set(sent.values()) == {1}
    assert ids(other)


async def test_poison_and_faults_on_the_way(kafka: str, tenant: str) -> None:
    """Poison is kept with its origin, a channel fault costs nothing, a retry waits in its tier."""
    records = [record(made(tenant, n)) for n in range(60)]
    key = user_key(tenant, "u-0")
    records.insert(30, Outgoing(topic=topics(CHANNEL)[1], key=key, value=b"poison", headers=(("a", b"b"),)))
    await written(kafka, records)
    fault = ChannelFault(reason="renew the VAPID key")
    connector = ScriptedConnector(fault, fault, Transient(reason="busy"), only=tenant)
    async with sending(kafka, tenant, connector):
        found = await told(kafka, tenant, 60)
    assert Counter(one.outcome for one in found) == {"delivered": 59, "transient": 1}
    assert {one.attempt for one in found} == {1}
    (letter,) = read_tenant(kafka, DEAD, tenant)
    headers = dict(letter.headers() or [])
    assert (letter.key(), letter.value(), headers["a"]) == (key, b"poison", b"b")
    assert headers["__dlq.errors.topic"] == topics(CHANNEL)[1].encode()
    assert headers["__dlq.errors.disposition"] == b"unreadable"
    (waiting,) = read_tenant(kafka, "notification.retry.10s", tenant)
    value = waiting.value()
    assert isinstance(value, bytes)
    assert WIRE.decode(Delivery, value).attempt == 2
