"""The retry tiers on a real broker: never early, in order, and a sender's attempts climb to their end."""

import asyncio
import secrets
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta

import pytest

from connectors.contract import Transient
from pipeline.adapters.kafka.consume import KafkaConsumer
from pipeline.adapters.kafka.produce import KafkaProducer
from pipeline.model.delivery import Delivery
from pipeline.model.event import Channel
from pipeline.model.ladder import scaled
from pipeline.model.outcome import Outcome
from pipeline.model.topics import DEAD, OUTCOMES, deliver, retry
from pipeline.observe import Meter
from pipeline.stages.retry import step as retrying
from pipeline.stages.send import step as sending
from tests.support.make import event, profile
from tests.support.sending import WIRE, MemoryProfiles, Rig, ScriptedConnector, delivery, eventually, record
from tests.support.topics import create_topics, read_tenant

pytestmark = pytest.mark.integration
SECONDS = 60.0
CHANNEL: Channel = "fcm"
TIERS = scaled(0.0002)  # 2 ms, 12 ms, 0.12 s, 0.7 s, 4.3 s
SECOND = timedelta(seconds=1)


@pytest.fixture
def tenant(kafka: str) -> str:
    """Records of this test alone."""
    create_topics(kafka)
    return f"t{secrets.token_hex(6)}"


def clock() -> datetime:
    """The time of day, for records whose time the broker's clients set."""
    return datetime.now(UTC)  # noqa: TID251 - a test's composition root


@asynccontextmanager
async def stages(
    kafka: str, tenant: str, connector: ScriptedConnector | None = None
) -> AsyncGenerator[KafkaProducer]:
    """The retry stage, and a sender when there is a connector, each in a group of the tenant's own."""
    producer = await KafkaProducer.open(kafka, client_id=tenant)
    consumer = await KafkaConsumer.open(kafka, retrying.topics(TIERS), group=f"{tenant}-r", instance="0")
    retrier = retrying.Retrier(
        consumer=consumer, producer=producer, wire=WIRE, clock=clock, tiers=TIERS, meter=Meter()
    )
    stop = asyncio.Event()
    tasks, consumers = [asyncio.create_task(retrying.run(retrier, stop))], [consumer]
    if connector is not None:
        rig = Rig(connector, channel=CHANNEL, tiers=TIERS, profiles=MemoryProfiles(profile(tenant=tenant)))
        reader = await KafkaConsumer.open(kafka, sending.topics(CHANNEL), group=f"{tenant}-s", instance="0")
        tasks.append(asyncio.create_task(sending.run(rig.sender(reader, producer, clock), stop)))
        consumers.append(reader)
    try:
        yield producer
    finally:
        stop.set()
        await asyncio.wait_for(asyncio.gather(*tasks), 60)
        for one in consumers:
            await one.aclose()
        await producer.aclose()


def arrivals(kafka: str, tenant: str, topic: str) -> list[tuple[str, datetime]]:
    """The tenant's deliveries on a topic, with the moment at which each was written."""
    found: list[tuple[str, datetime]] = []
    for message in read_tenant(kafka, topic, tenant):
        value, (_, at) = message.value(), message.timestamp()
        assert isinstance(value, bytes)
        found.append((WIRE.decode(Delivery, value).event_id, datetime.fromtimestamp(at / 1000, UTC)))
    return found


async def test_every_tier_forwards_when_it_is_due(kafka: str, tenant: str) -> None:
    """No record leaves its tier early, and within a tier a user's records stay in order."""
    start = clock()
    records = [
        record(
            delivery(
                f"{tier.name}-{n}",
                CHANNEL,
                tenant=tenant,
                attempt=2,
                not_before=start + tier.delay,
                decided_at=start,
            ),
            retry(tier.name),
        )
        for n in range(3)
        for tier in TIERS[:4]
    ]
    async with stages(kafka, tenant) as producer:
        await producer.send_all(records)
        async with asyncio.timeout(SECONDS):
            while True:
                found = await asyncio.to_thread(arrivals, kafka, tenant, deliver(CHANNEL, "normal"))
                if len(found) == len(records):
                    break
                await asyncio.sleep(0.1)
    delays = {tier.name: tier.delay for tier in TIERS}
    for event_id, at in found:
        assert at - start >= delays[event_id.partition("-")[0]] - timedelta(milliseconds=1)
    for tier in TIERS[:4]:
        mine = [event_id for event_id, _ in found if event_id.startswith(f"{tier.name}-")]
        assert mine == [f"{tier.name}-{n}" for n in range(3)]


async def test_a_delivery_climbs_to_its_end(kafka: str, tenant: str) -> None:
    """Six attempts with one identity, five waits, then the dead letter says that the ladder is used up."""
    connector = ScriptedConnector(*[Transient(reason="busy", code="503")] * 6, only=tenant)
    one = delivery(
        "e-1",
        CHANNEL,
        tenant=tenant,
        delivery_id=tenant,
        carried=event("e-1", tenant=tenant),
        decided_at=clock(),
    )
    async with stages(kafka, tenant, connector) as producer:
        await producer.send_all([record(one)])
        await eventually(lambda: len(connector.sent) == 6, SECONDS)
        await eventually(lambda: bool(read_tenant(kafka, DEAD, tenant)), SECONDS)
    (letter,) = read_tenant(kafka, DEAD, tenant)
    assert {message.delivery_id for message in connector.sent} == {tenant}
    values = [message.value() for message in read_tenant(kafka, OUTCOMES, tenant)]
    told = [WIRE.decode(Outcome, value) for value in values if isinstance(value, bytes)]
    assert [(one.attempt, one.tier) for one in told] == [
        *((n + 1, tier.name) for n, tier in enumerate(TIERS)),
        (6, ""),
    ]
    headers = dict(letter.headers() or [])
    assert headers["__dlq.errors.disposition"] == b"exhausted"
    assert headers["__dlq.errors.delivery.count"] == b"6"
