"""Reads partitions of a topic from a moment to their end: for state that is rebuilt from the log."""

import time
from collections.abc import Iterator, Sequence
from datetime import datetime

from confluent_kafka import Consumer, KafkaError, KafkaException, TopicPartition

from pipeline.model.errors import DependencyDown

_TIMEOUT = 15.0  # seconds without a record or an end, after which Kafka counts as away
_AGAIN = 0.1  # seconds between two questions for a leader


def read_back(servers: str, topic: str, partitions: Sequence[int], since: datetime) -> Iterator[bytes]:
    """The values of the committed records written since then, partition by partition in order.

    Raises DependencyDown when Kafka does not answer.
    """
    if not partitions:
        return
    consumer = Consumer(
        {
            "bootstrap.servers": servers,
            "group.id": "readback",  # required by the client; never joined, nothing is committed
            "enable.auto.commit": False,
            "isolation.level": "read_committed",
            "auto.offset.reset": "earliest",
            "enable.partition.eof": True,
            "fetch.queue.backoff.ms": 10,
        }
    )
    try:
        consumer.assign(_starts(consumer, topic, partitions, since))
        yield from _to_the_end(consumer, set(partitions))
    finally:
        consumer.close()


def _starts(
    consumer: Consumer, topic: str, partitions: Sequence[int], since: datetime
) -> list[TopicPartition]:
    at = int(since.timestamp() * 1000)
    wanted = [TopicPartition(topic, partition, at) for partition in partitions]
    deadline = time.monotonic() + _TIMEOUT
    while True:
        try:
            return consumer.offsets_for_times(wanted, _TIMEOUT)
        except KafkaException as failure:
            error: KafkaError = failure.args[0]
            # A topic that was just created has no leader yet; the client asks again with newer metadata.
            if error.code() != KafkaError.NOT_LEADER_FOR_PARTITION or time.monotonic() > deadline:
                raise DependencyDown(f"where {topic} begins: {error.str()}") from failure
            time.sleep(_AGAIN)


def _to_the_end(consumer: Consumer, unread: set[int]) -> Iterator[bytes]:
    while unread:
        first = consumer.poll(_TIMEOUT)
        if first is None:
            raise DependencyDown(f"Kafka gave neither a record nor an end within {_TIMEOUT} s")
        for message in (first, *consumer.consume(10_000, 0)):  # a timeout here would be waited out
            error = message.error()
            if error is None:
                yield message.value() or b""
            elif error.code() == KafkaError._PARTITION_EOF:
                unread.discard(message.partition() or 0)  # an end that moves meanwhile is told again
            else:
                raise DependencyDown(f"reading {message.topic()} back: {error.str()}")
