"""Reading a topic back to its end, on a real broker."""

import threading
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta

import pytest
from confluent_kafka import Producer
from confluent_kafka.admin import AdminClient, NewTopic

from pipeline.adapters.kafka.readback import read_back
from tests.support.services import until

pytestmark = pytest.mark.integration
SINCE = datetime.now(UTC) - timedelta(hours=1)  # noqa: TID251 - a test's own clock
_ANSWER = 60.0  # seconds


def created(servers: str, topic: str) -> str:
    """A topic of one partition, with a leader."""
    admin = AdminClient({"bootstrap.servers": servers})
    admin.create_topics([NewTopic(topic, 1, 1)])[topic].result(_ANSWER)
    until(lambda: admin.list_topics(topic, _ANSWER).topics[topic].partitions[0].leader >= 0)
    return topic


def began(servers: str, topic: str, value: bytes) -> Producer:
    """A producer whose transaction stands open, with a record on the broker."""
    producer = Producer({"bootstrap.servers": servers, "transactional.id": f"{topic}-{value.decode()}"})
    producer.init_transactions(_ANSWER)
    producer.begin_transaction()
    producer.produce(topic, value, partition=0)
    assert producer.flush(_ANSWER) == 0
    return producer


@pytest.mark.parametrize(("name", "start"), [("by-offset", 0), ("by-moment", SINCE)])
def test_what_lies_behind_an_open_transaction_is_waited_for(
    kafka: str, name: str, start: int | datetime
) -> None:
    """A process hangs in its transaction: what others have committed behind it comes all the same."""
    topic = created(kafka, f"readback-{name}")
    before = began(kafka, topic, b"before")
    before.commit_transaction(_ANSWER)
    hangs = began(kafka, topic, b"hangs")
    behind = began(kafka, topic, b"behind")
    behind.commit_transaction(_ANSWER)
    starts: Mapping[int, int | datetime] = {0: start}
    # Long after the end that a reader of committed records is told at first.
    ends = threading.Timer(2, hangs.abort_transaction, (_ANSWER,))
    ends.start()
    found = list(read_back(kafka, topic, starts))
    ends.join()
    assert [value for _, _, value in found] == [b"before", b"behind"]


def test_nothing_is_read_where_nothing_is(kafka: str) -> None:
    """An empty partition ends at once, and so does one of which nothing is asked."""
    topic = created(kafka, "readback-empty")
    assert list(read_back(kafka, topic, {0: 0})) == list(read_back(kafka, topic, {0: SINCE})) == []
    assert list(read_back(kafka, topic, {})) == []
