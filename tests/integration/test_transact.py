"""What the router writes in one transaction, through a broker that refuses first writes."""

import asyncio
import secrets
import shutil
from collections.abc import Mapping, Sequence

import pytest
from confluent_kafka import KafkaException

from pipeline.adapters.kafka.bulk import COMPILED, BulkProducer
from pipeline.adapters.kafka.produce import KafkaProducer
from pipeline.adapters.kafka.transact import Fenced, Transactor
from pipeline.model.record import Outgoing, Written, unpack
from pipeline.model.topics import ENGAGEMENT, events
from tests.support.refusing import refusing
from tests.support.services import until
from tests.support.topics import create_topics, read_tenant

pytestmark = pytest.mark.integration
_LARGE = 400_000  # bytes that do not compress: three fill a request, so that there are several at once


class Nothing:
    """A state that remembers nothing."""

    def restore(self, partitions: Sequence[int]) -> None:
        """Nothing to read back."""

    def next_offset(self, topic: str, partition: int) -> int:
        """Nothing is decided."""
        return 0


def join(transactor: Transactor) -> None:
    """Wait until it has partitions."""

    def joined() -> bool:
        transactor.poll(1, 0.5)
        return bool(transactor.epoch)

    until(joined)


def commit(servers: str, group: str, written: Written) -> None:
    """All of it in one transaction, as the router writes."""
    transactor = Transactor(servers, group=group, instance="0", topics=[events("bulk")], state=Nothing())
    try:
        transactor.start()
        join(transactor)
        assert transactor.commit(written, []) == {}
    finally:
        transactor.close()


async def test_what_the_router_commits_is_all_there(kafka: str) -> None:
    """Also when the broker refuses the first request to a partition and takes the second."""
    create_topics(kafka)
    tenant = f"transact-{secrets.token_hex(6)}"
    written, values = Written(), [secrets.token_bytes(_LARGE) for _ in range(8)]
    for value in values:
        written.put(ENGAGEMENT, value, f"{tenant}/u".encode(), 0)
    async with refusing(kafka) as servers:
        await asyncio.wait_for(asyncio.to_thread(commit, servers, tenant, written), 60)
    found = await asyncio.to_thread(read_tenant, kafka, ENGAGEMENT, tenant)
    assert [message.value() for message in found] == values


class Interpreted(BulkProducer):
    """As where there was no C compiler."""

    def __init__(self, config: Mapping[str, str | int | bool]) -> None:
        super().__init__(config)
        self._direct = None


@pytest.mark.parametrize("kind", [BulkProducer, Interpreted])
def test_packed_records_arrive_as_they_are(kafka: str, kind: type[BulkProducer]) -> None:
    """The compiled way and the other one write the same keys and values, to the same partitions."""
    assert COMPILED or shutil.which("cc") is None
    create_topics(kafka)
    tenant = f"bulk-{secrets.token_hex(6)}"
    written = Written()
    for number in range(2_500):  # more than one call takes
        value = b"" if number % 11 == 0 else b"%d" % number * (number % 50)
        written.put(ENGAGEMENT, value, f"{tenant}/{number % 97}".encode(), -1 if number % 3 else 0)
    bulk = kind({"bootstrap.servers": kafka, "partitioner": "murmur2_random", "linger.ms": 5})
    bulk.queue(ENGAGEMENT, written.packed[ENGAGEMENT])
    assert bulk.producer.flush(60) == 0
    wanted = [(m["key"], m["value"]) for m in unpack(written.packed[ENGAGEMENT])]
    found = read_tenant(kafka, ENGAGEMENT, tenant)
    assert sorted((m.key(), m.value()) for m in found) == sorted(wanted)
    partition = {m.key(): m.partition() for m in found if m.partition()}
    assert all(m.partition() in (0, partition.get(m.key(), 0)) for m in found), "0, or where the key belongs"


def test_a_record_that_is_too_large_is_an_error(kafka: str) -> None:
    """What librdkafka refuses is told by its name, and nothing is left out in silence."""
    written = Written()
    written.put(ENGAGEMENT, b"x" * 2_000_000, b"acme/u", 0)
    bulk = BulkProducer({"bootstrap.servers": kafka})
    with pytest.raises(KafkaException, match="MSG_SIZE_TOO_LARGE"):
        bulk.queue(ENGAGEMENT, written.packed[ENGAGEMENT])


def test_a_successor_fences_who_went_before(kafka: str) -> None:
    """Once the next process of an instance has started, one that only slept cannot commit any more."""
    create_topics(kafka)
    group = f"zombie-{secrets.token_hex(6)}"
    topics = [events("bulk")]
    zombie = Transactor(kafka, group=group, instance="0", topics=topics, state=Nothing())
    successor = Transactor(kafka, group=group, instance="0", topics=topics, state=Nothing())
    try:
        zombie.start()
        join(zombie)
        successor.start()
        written = Written()
        written.put(ENGAGEMENT, b"late", f"{group}/u".encode(), 0)
        with pytest.raises(Fenced):
            zombie.commit(written, [])
    finally:
        zombie.close()
        successor.close()
    assert read_tenant(kafka, ENGAGEMENT, group) == []


async def test_both_producers_agree_on_partitions(kafka: str) -> None:
    """What the router leaves to its producer meets a user's other records in one partition."""
    create_topics(kafka)
    tenant = f"meet-{secrets.token_hex(6)}"
    keys = [f"{tenant}/{number}".encode() for number in range(50)]
    written = Written()
    for key in keys:
        written.put(ENGAGEMENT, b"router", key, -1)
    await asyncio.wait_for(asyncio.to_thread(commit, kafka, tenant, written), 60)
    producer = await KafkaProducer.open(kafka, client_id="test-meet")
    try:
        await producer.send_all([Outgoing(topic=ENGAGEMENT, key=key, value=b"other") for key in keys])
    finally:
        await producer.aclose()
    found = await asyncio.to_thread(read_tenant, kafka, ENGAGEMENT, tenant)
    places = {key: {m.partition() for m in found if m.key() == key} for key in keys}
    assert len(found) == 2 * len(keys)
    assert {len(where) for where in places.values()} == {1}
