"""Reads partitions of a topic from a moment or an offset to their end: for state that is rebuilt from the log."""

import time
from collections.abc import Iterable, Iterator, Mapping
from datetime import datetime

from confluent_kafka import Consumer, KafkaError, KafkaException, TopicPartition

from pipeline.adapters.kafka.ends import end_offsets
from pipeline.model.errors import DependencyDown
from pipeline.model.moment import ms

# Seconds without a record or an end, after which Kafka counts as away. What lies behind the transaction of
# a process that hangs comes when the broker has ended it: after its 12 s, looked for every 10 s.
_TIMEOUT = 30.0
_AGAIN = 0.1  # seconds between two questions for a leader


def read_back(
    servers: str, topic: str, starts: Mapping[int, int | datetime]
) -> Iterator[tuple[int, int, bytes]]:
    """(partition, offset, value) of the committed records from there on, each partition in order.

    To the very end, past every transaction that stands open: what others have committed lies behind it,
    and the end that a reader of committed records is told is its beginning. Ending there, a router forgot
    what its predecessor had decided, and decided 52 events twice.

    `starts`: by partition, an offset, or the moment since when. Raises DependencyDown when Kafka does not
    answer.
    """
    if not starts:
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
            "fetch.wait.max.ms": 20,  # an end is told by a fetch that comes back empty: 500 by default, each start
        }
    )
    try:
        ends = end_offsets(servers, [topic])
        consumer.assign(_starts(consumer, topic, starts))
        yield from _to_the_end(consumer, {partition: ends[topic, partition] for partition in starts})
    finally:
        consumer.close()


def values(servers: str, topic: str, partitions: Iterable[int], since: datetime) -> Iterator[bytes]:
    """The values alone, of everything written since then. Raises DependencyDown."""
    return (value for _, _, value in read_back(servers, topic, dict.fromkeys(partitions, since)))


def _starts(consumer: Consumer, topic: str, starts: Mapping[int, int | datetime]) -> list[TopicPartition]:
    known = [TopicPartition(topic, partition, at) for partition, at in starts.items() if isinstance(at, int)]
    wanted = [
        TopicPartition(topic, partition, ms(at))
        for partition, at in starts.items()
        if isinstance(at, datetime)
    ]
    deadline = time.monotonic() + _TIMEOUT
    while wanted:
        try:
            return known + consumer.offsets_for_times(wanted, _TIMEOUT)
        except KafkaException as failure:
            error: KafkaError = failure.args[0]
            # A topic that was just created has no leader yet; the client asks again with newer metadata.
            if error.code() != KafkaError.NOT_LEADER_FOR_PARTITION or time.monotonic() > deadline:
                raise DependencyDown(f"where {topic} begins: {error.str()}") from failure
            time.sleep(_AGAIN)
    return known


def _to_the_end(consumer: Consumer, ends: dict[int, int]) -> Iterator[tuple[int, int, bytes]]:
    while ends:
        first = consumer.poll(_TIMEOUT)
        if first is None:
            raise DependencyDown(f"Kafka gave neither a record nor an end within {_TIMEOUT} s")
        for message in (first, *consumer.consume(10_000, 0)):  # a timeout here would be waited out
            partition, offset, error = message.partition() or 0, message.offset() or 0, message.error()
            if error is None:
                yield partition, offset, message.value() or b""
            elif error.code() != KafkaError._PARTITION_EOF:
                raise DependencyDown(f"reading {message.topic()} back: {error.str()}")
            elif offset >= ends.get(partition, 0):  # told again when it moves
                ends.pop(partition, None)
