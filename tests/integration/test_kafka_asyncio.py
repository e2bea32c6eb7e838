"""Reading and writing on asyncio against a real broker: nothing skipped, nothing invented, nothing twice."""

import asyncio
import os
import secrets
import signal
import time
from collections.abc import AsyncGenerator, Generator, Sequence
from contextlib import asynccontextmanager, contextmanager, suppress

import psutil
import pytest
from confluent_kafka import Producer
from confluent_kafka.admin import AdminClient, NewTopic

from pipeline.adapters.kafka import consume
from pipeline.adapters.kafka.consume import KafkaConsumer
from pipeline.adapters.kafka.produce import KafkaProducer
from pipeline.model.errors import ConfigurationError, DependencyDown, PayloadTooLarge
from pipeline.model.event import user_key
from pipeline.model.record import Incoming, Outgoing
from tests.support.sending import eventually

pytestmark = pytest.mark.integration
SECONDS = 60.0  # a join, a rebalance


@pytest.fixture
def topic(kafka: str) -> str:
    """A topic of this test alone, with four partitions."""
    name = f"test-{secrets.token_hex(6)}"
    admin = AdminClient({"bootstrap.servers": kafka})
    for future in admin.create_topics([NewTopic(name, 4, 1)], request_timeout=15).values():
        future.result(15)
    return name


@asynccontextmanager
async def producing(kafka: str, deadline: float = 20.0) -> AsyncGenerator[KafkaProducer]:
    """A producer."""
    producer = await KafkaProducer.open(kafka, client_id="test", deadline=deadline)
    try:
        yield producer
    finally:
        await producer.aclose()


@asynccontextmanager
async def consuming(kafka: str, topic: str, instance: str = "0") -> AsyncGenerator[KafkaConsumer]:
    """A member of the topic's group."""
    consumer = await KafkaConsumer.open(kafka, [topic], group=f"g-{topic}", instance=instance)
    try:
        yield consumer
    finally:
        await consumer.aclose()


async def take(consumer: KafkaConsumer, topic: str, count: int) -> list[Incoming]:
    """Read until so many have come."""
    found: list[Incoming] = []
    async with asyncio.timeout(SECONDS):
        while len(found) < count:
            found += await consumer.fetch({topic: count - len(found)}, 0.2)
    return found


def numbered(topic: str, numbers: Sequence[int], partition: int | None = 0) -> list[Outgoing]:
    """Records with a number as value."""
    return [Outgoing(topic=topic, key=b"k", value=b"%d" % n, partition=partition) for n in numbers]


async def test_a_record_arrives_as_it_was(kafka: str, topic: str) -> None:
    """Key, value, headers and emptiness survive lz4 and the broker."""
    records = [
        Outgoing(topic=topic, key=b"a", value=b"x" * 10_000, headers=(("h", b"1"), ("h", b"2")), partition=0),
        Outgoing(topic=topic, key=b"a", value=None, partition=0),
        Outgoing(topic=topic, key=None, value=b"", partition=0),
    ]
    async with producing(kafka) as producer, consuming(kafka, topic) as consumer:
        await producer.send_all(records)
        await producer.send_all([])
        found = await take(consumer, topic, 3)
    assert [(one.key, one.value, one.headers) for one in found] == [
        (one.key, one.value, one.headers) for one in records
    ]


async def test_who_wakes_after_the_session_gives_back_what_it_has(
    kafka: str, topic: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Stopped with SIGSTOP it does not know that others have its partitions; the group then says what is its own."""
    async with producing(kafka) as producer, consuming(kafka, topic) as consumer:
        await producer.send_all(numbered(topic, range(6)))
        found = await take(consumer, topic, 3)
        await consumer.commit(found[:1])
        assert consumer.owns(found[1])
        clock = time.monotonic
        monkeypatch.setattr(consume.time, "monotonic", lambda: clock() + 40)
        assert not consumer.owns(found[1])
        assert await consumer.fetch({topic: 10}, 0.1) == []
        consumer.abandon(found[1:])
        again = await take(consumer, topic, 5)  # nobody else was there: they come to the same one
        assert [one.value for one in again] == [b"%d" % n for n in range(1, 6)]
        assert all(map(consumer.owns, again))
        await consumer.commit(again)


async def test_both_clients_agree_on_partitions(kafka: str, topic: str) -> None:
    """A user's records meet in one partition, whichever client wrote them."""
    keys = [user_key("acme", f"u-{n}") for n in range(100)]
    other = Producer({"bootstrap.servers": kafka, "partitioner": "murmur2_random"})
    for key in keys:
        other.produce(topic, key=key, value=b"librdkafka")
    assert other.flush(15) == 0
    async with producing(kafka) as producer, consuming(kafka, topic) as consumer:
        await producer.send_all([Outgoing(topic=topic, key=key, value=b"aiokafka") for key in keys])
        found = await take(consumer, topic, 200)
    places: dict[bytes | None, set[int]] = {}
    for one in found:
        places.setdefault(one.key, set()).add(one.partition)
    assert {len(where) for where in places.values()} == {1}
    assert {where for some in places.values() for where in some} == {0, 1, 2, 3}


async def test_aborted_records_are_not_read(kafka: str, topic: str) -> None:
    """Only what a transaction has committed exists."""
    writer = Producer({"bootstrap.servers": kafka, "transactional.id": f"t-{topic}"})
    writer.init_transactions(15)
    for value, commit in ((b"no", False), (b"yes", True)):
        writer.begin_transaction()
        writer.produce(topic, value=value, partition=0)
        writer.flush(15)
        _ = writer.commit_transaction(15) if commit else writer.abort_transaction(15)
    async with consuming(kafka, topic) as consumer:
        assert [one.value for one in await take(consumer, topic, 1)] == [b"yes"]
        assert await consumer.fetch({topic: 10}, 0.5) == []


async def test_the_successor_reads_the_holes_alone(kafka: str, topic: str) -> None:
    """What is done, below the first hole or beyond it, is not handed to the next process; and soon, too."""
    async with producing(kafka) as producer:
        await producer.send_all(numbered(topic, range(10)))
    async with consuming(kafka, topic) as consumer:
        found = await take(consumer, topic, 10)
        await consumer.commit([one for one in found if one.offset not in (4, 7)])
    began = asyncio.get_running_loop().time()
    async with consuming(kafka, topic) as consumer:
        again = await take(consumer, topic, 2)
    assert [one.value for one in again] == [b"4", b"7"]
    # A static member comes back without a rebalance; a dynamic one would wait for the session's 30 s.
    assert asyncio.get_running_loop().time() - began < 10


async def test_a_lost_group_skips_nothing(kafka: str, topic: str) -> None:
    """A group that Kafka does not know, or no longer, begins where the topic begins and not at its end."""
    async with producing(kafka) as producer, consuming(kafka, topic) as consumer:
        await producer.send_all(numbered(topic, range(3)))
        found: list[Incoming] = []
        async with asyncio.timeout(SECONDS):
            while not found:
                await producer.send_all(numbered(topic, [3]))  # so that a reader from the end finds one, too
                found = await consumer.fetch({topic: 1}, 0.2)
    assert found[0].value == b"0"


async def test_a_newcomer_gets_what_was_not_done(kafka: str, topic: str) -> None:
    """On a rebalance what is in flight ends and is committed first; what ends later moves no offset."""
    async with producing(kafka) as producer:
        await producer.send_all([one for p in range(4) for one in numbered(topic, range(5), p)])
    async with consuming(kafka, topic, "0") as first:
        old = await take(first, topic, 20)
        assert first.share() == 1
        async with consuming(kafka, topic, "1") as second:
            reading = asyncio.create_task(first.fetch({topic: 1}, 0.2))
            await eventually(lambda: not first.owns(old[0]), SECONDS)  # the partitions are being taken away
            done = [one for one in old if one.offset < 3]
            await first.commit(done)
            first.abandon([one for one in old if one.offset >= 3])
            await reading
            new = await both(first, second, topic, 8)
            await first.commit(old)  # too late: must change nothing
            assert await first.fetch({topic: 100}, 0.5) == await second.fetch({topic: 100}, 0.5) == []
            assert first.share() == second.share() == 0.5  # by which they divide a provider's rate
    assert sorted((one.partition, one.offset) for one in new) == [(p, o) for p in range(4) for o in (3, 4)]
    async with consuming(kafka, topic, "0") as last, consuming(kafka, topic, "1") as other:
        assert len(await both(last, other, topic, 8)) == 8


async def test_twins_are_named(kafka: str, topic: str) -> None:
    """Two processes of one instance put each other out until one ends and says what to change."""

    async def reading(consumer: KafkaConsumer) -> None:
        async with asyncio.timeout(SECONDS):
            while True:
                with suppress(DependencyDown):
                    await consumer.fetch({topic: 1}, 0.2)

    async with consuming(kafka, topic) as one, consuming(kafka, topic) as twin:
        twins = [asyncio.create_task(reading(consumer)) for consumer in (one, twin)]
        done, others = await asyncio.wait(twins, return_when=asyncio.FIRST_COMPLETED)
        for other in others:
            other.cancel()
    with pytest.raises(ConfigurationError, match="give each process its own EVERPOST_INSTANCE"):
        done.pop().result()


async def both(one: KafkaConsumer, other: KafkaConsumer, topic: str, count: int) -> list[Incoming]:
    """Read with two members until so many have come."""
    found: list[Incoming] = []
    async with asyncio.timeout(SECONDS):
        while len(found) < count:
            for batch in await asyncio.gather(one.fetch({topic: 100}, 0.2), other.fetch({topic: 100}, 0.2)):
                found += batch
    return found


async def test_pause_and_rooms(kafka: str, topic: str) -> None:
    """A paused partition is left alone, the others are read; no rooms, no records."""
    async with producing(kafka) as producer:
        await producer.send_all([*numbered(topic, range(3), 0), *numbered(topic, range(3), 1)])
    async with consuming(kafka, topic) as consumer:
        first = await take(consumer, topic, 1)
        place = (topic, first[0].partition)
        consumer.pause([place, (topic, 99)])
        others = await take(consumer, topic, 3)
        assert {one.partition for one in others} == {0, 1} - {place[1]}
        assert await consumer.fetch({topic: 10}, 0.5) == []
        consumer.resume([place])
        assert await consumer.fetch({}, 0.1) == []
        assert {one.partition for one in await take(consumer, topic, 2)} == {place[1]}


async def test_too_large_is_the_callers_fault(kafka: str, topic: str) -> None:
    """Above the client's limit and above the broker's, by name, and the producer goes on."""
    async with producing(kafka) as producer:
        for size in (1_500_000, 3_000_000):
            with pytest.raises(PayloadTooLarge):
                await producer.send_all(
                    [Outgoing(topic=topic, key=None, value=os.urandom(size), partition=0)]
                )
        await producer.send_all(numbered(topic, [1]))


async def test_a_broker_that_hangs_gets_nothing_twice(kafka: str, topic: str) -> None:
    """After a deadline the same records are waited for, not written again; equal ones stay two."""
    records = numbered(topic, [1, 2, 2, 3])
    async with producing(kafka, deadline=1.0) as producer, consuming(kafka, topic) as consumer:
        await producer.send_all(numbered(topic, [0]))
        with frozen(kafka):
            for _ in range(2):
                with pytest.raises(DependencyDown, match="not acknowledged 4 records"):
                    await producer.send_all(records)
        async with asyncio.timeout(SECONDS):
            while not await succeeds(producer, records):
                continue
        await producer.send_all(numbered(topic, [4]))
        assert [one.value for one in await take(consumer, topic, 6)] == [b"0", b"1", b"2", b"2", b"3", b"4"]


async def succeeds(producer: KafkaProducer, records: Sequence[Outgoing]) -> bool:
    """One more try."""
    try:
        await producer.send_all(records)
    except DependencyDown:
        return False
    return True


@contextmanager
def frozen(kafka: str) -> Generator[None]:
    """The broker hangs: its connections stay open and nothing answers."""
    port = int(kafka.rpartition(":")[2])
    pid = next(
        c.pid
        for c in psutil.net_connections("tcp")
        if c.laddr and c.laddr.port == port and c.status == "LISTEN"
    )
    assert pid is not None
    os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(pid, signal.SIGCONT)


async def test_nobody_there() -> None:
    """A broker that is not there is a dependency that is down, at once, and nothing is left open."""
    with pytest.raises(DependencyDown, match=r"127\.0\.0\.1:1 does not answer"):
        await KafkaProducer.open("127.0.0.1:1", client_id="test")
    with pytest.raises(DependencyDown, match=r"127\.0\.0\.1:1 does not answer"):
        await KafkaConsumer.open("127.0.0.1:1", ["t"], group="g", instance="0")
