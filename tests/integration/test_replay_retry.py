"""Replay over the retry tiers, on a real Kafka and PostgreSQL, while the retry stage drains them too."""

import asyncio
import secrets
from collections import Counter
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta

import asyncpg
import pytest

from pipeline.adapters.kafka.consume import KafkaConsumer
from pipeline.adapters.kafka.produce import KafkaProducer
from pipeline.adapters.postgres.tiers import PostgresTiers
from pipeline.model.delivery import Delivery
from pipeline.model.ladder import TIERS
from pipeline.model.outcome import Outcome
from pipeline.model.topics import OUTCOMES, deliver, retry
from pipeline.observe import Meter
from pipeline.stages.retry import step as retrying
from tests.support.database import migrated
from tests.support.eventually import eventually
from tests.support.letters import CHANNEL, command, dead, start, write
from tests.support.sending import WIRE, record
from tests.support.topics import create_topics, read_tenant

pytestmark = pytest.mark.integration
COUNT = 60
TOPIC = deliver(CHANNEL, "normal")
TIER = retry("1h")
WHY = ("--why", "a test")
DEADLINE = 60.0


class Clock:
    """The time of day, or later."""

    ahead = timedelta(0)

    def __call__(self) -> datetime:
        """Now."""
        return datetime.now(UTC) + self.ahead  # noqa: TID251 - a test's composition root


@pytest.fixture
def tenant(kafka: str) -> str:
    """Deliveries of this test alone; the broker is shared."""
    create_topics(kafka)
    return f"t{secrets.token_hex(6)}"


@asynccontextmanager
async def retry_stage(kafka: str, pool: asyncpg.Pool) -> AsyncGenerator[Clock]:
    """The retry stage of the installation; by its clock everything is due when the test wants it."""
    clock = Clock()
    producer = await KafkaProducer.open(kafka, client_id="retry")
    consumer = await KafkaConsumer.open(kafka, retrying.topics(TIERS), group=retrying.GROUP, instance="0")
    stop = asyncio.Event()
    retrier = retrying.Retrier(
        consumer=consumer,
        producer=producer,
        wire=WIRE,
        clock=clock,
        tiers=TIERS,
        meter=Meter(),
        leaving=PostgresTiers(pool).leaving,
    )
    task = asyncio.create_task(retrying.run(retrier, stop))
    try:
        yield clock
    finally:
        stop.set()
        await asyncio.wait_for(task, DEADLINE)
        await consumer.aclose()
        await producer.aclose()


async def waiting(kafka: str, tenant: str) -> None:
    """Deliveries that have failed once and wait for an hour."""
    until = Clock()() + timedelta(hours=1)
    await write(kafka, [record(dead(tenant, n, attempt=2, not_before=until), TIER) for n in range(COUNT)])


def left(kafka: str, tenant: str) -> list[Delivery]:
    """What is on its channel again."""
    values = [message.value() for message in read_tenant(kafka, TOPIC, tenant)]
    return [WIRE.decode(Delivery, value) for value in values if isinstance(value, bytes)]


async def have_left(kafka: str, tenant: str, count: int) -> list[Delivery]:
    """Wait until so many are."""
    found: list[Delivery] = []

    async def enough() -> bool:
        found[:] = await asyncio.to_thread(left, kafka, tenant)
        return len(found) >= count

    await eventually(enough, DEADLINE)
    return found


def once_each(found: list[Delivery]) -> None:
    """Every delivery left once, as the attempt that it was numbered for."""
    assert len(found) == COUNT
    assert set(Counter(one.delivery_id for one in found).values()) == {1}
    assert {one.attempt for one in found} == {2}


async def test_what_waits_is_sent_now_and_not_again_when_due(kafka: str, postgres: str, tenant: str) -> None:
    """While a slow run and the retry stage both take from a tier, each delivery leaves by one of them."""
    await waiting(kafka, tenant)
    async with migrated(postgres) as pool, retry_stage(kafka, pool) as clock:
        dry = await command(kafka, postgres, "replay", "--retry", "--tenant", tenant, "--dry-run")
        assert (dry["sent"], sum(dry["counts"].values())) == (0, COUNT)
        process = await start(
            kafka, postgres, "replay", "--retry", "--tenant", tenant, "--rate", "40", *WHY, "--json"
        )
        try:
            await have_left(kafka, tenant, COUNT // 6)
            clock.ahead = timedelta(hours=2)
            assert await asyncio.wait_for(process.wait(), DEADLINE) == 0
        finally:
            if process.returncode is None:
                process.kill()
            await process.communicate()
        once_each(await have_left(kafka, tenant, COUNT))
        (run, _) = await command(kafka, postgres, "runs")
        assert 0 < run["counts"]["sent"] <= COUNT
        assert await command(kafka, postgres, "ls", "--retry", "--tenant", tenant) == []
    once_each(left(kafka, tenant))


async def test_what_is_discarded_while_it_waits_ends_as_recalled(
    kafka: str, postgres: str, tenant: str
) -> None:
    """The log learns of each end, and nothing leaves when it is due."""
    await waiting(kafka, tenant)
    async with migrated(postgres) as pool, retry_stage(kafka, pool) as clock:
        told = await command(kafka, postgres, "discard", "--retry", "--tenant", tenant, "--user", "u-1", *WHY)
        assert told["counts"] == {"discarded": 1}
        clock.ahead = timedelta(hours=2)
        found = await have_left(kafka, tenant, COUNT - 1)
        again = await command(kafka, postgres, "discard", "--retry", "--tenant", tenant, *WHY)
        assert again["counts"] == {}
    ends = [WIRE.decode(Outcome, m.value()) for m in read_tenant(kafka, OUTCOMES, tenant)]
    assert [(one.user_id, one.attempt, one.outcome) for one in ends] == [("u-1", 2, "recalled")]
    assert len(found) == len({one.user_id for one in found} - {"u-1"}) == COUNT - 1


@pytest.mark.faults
async def test_a_killed_run_that_is_aborted_gives_back_what_it_took(
    kafka: str, postgres: str, tenant: str
) -> None:
    """`kill -9` with letters taken and not sent: after the abort they wait on, and leave once when due."""
    await waiting(kafka, tenant)
    async with migrated(postgres) as pool, retry_stage(kafka, pool) as clock:
        process = await start(kafka, postgres, "replay", "--retry", "--tenant", tenant, "--rate", "30", *WHY)
        try:
            await have_left(kafka, tenant, COUNT // 6)
        finally:
            process.kill()
            await process.communicate()
        (run,) = await command(kafka, postgres, "runs")
        clock.ahead = timedelta(hours=2)  # what it took and did not send is passed over now
        for _ in range(2):
            abort = await start(kafka, postgres, "abort", run["run_id"], *WHY)
            assert await asyncio.wait_for(abort.wait(), DEADLINE) == 0
            await abort.communicate()
        clock.ahead = timedelta(hours=4)
        once_each(await have_left(kafka, tenant, COUNT))
