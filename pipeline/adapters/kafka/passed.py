"""How far groups have read: by the time at which the oldest record that they have not passed was written."""

import time
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime

from confluent_kafka import Consumer, KafkaError, KafkaException, Message, TopicPartition

from pipeline.adapters.kafka.ends import begin_offsets, end_offsets
from pipeline.adapters.kafka.ranges import Place
from pipeline.model.errors import DependencyDown
from pipeline.model.moment import moment

_TIMEOUT = 15.0  # seconds, for one question, and without a record or an end


def read_until(servers: str, group: str, topics: Sequence[str], now: datetime) -> Mapping[str, datetime]:
    """By topic, the moment until which the group has read everything that was written to it.

    It is `now`, the moment of the question, where nothing is left. Asked by reading on from what the group has
    committed: the end of a topic that is written in transactions lies behind a marker, which no group
    commits. What lies behind an open transaction is not read by anybody, so it is left.

    Raises DependencyDown when Kafka does not answer, ConfigurationError when a topic is not there.
    """
    ends, begins = end_offsets(servers, topics), begin_offsets(servers, topics)
    reader = _reader(servers, group)
    try:
        places = [TopicPartition(*place) for place in ends]
        committed = {(at.topic, at.partition): at.offset for at in reader.committed(places, _TIMEOUT)}
        starts = {place: max(committed[place], begins[place]) for place in ends}
        left = {place: start for place, start in starts.items() if start < ends[place]}
        reader.assign([TopicPartition(*place, start) for place, start in left.items()])
        oldest = _oldest(reader, {place: ends[place] for place in left})
    except KafkaException as failure:
        raise DependencyDown(f"Kafka does not answer: {failure.args[0].str()}") from failure
    finally:
        reader.close()
    return {
        topic: min((at for (name, _), at in oldest.items() if name == topic), default=now) for topic in topics
    }


def _reader(servers: str, group: str) -> Consumer:
    return Consumer(
        {
            "bootstrap.servers": servers,
            "log_level": 0,  # what matters comes back as an error
            "group.id": group,  # asked for its offsets; never joined, nothing is committed
            "enable.auto.commit": False,
            "isolation.level": "read_committed",
            "auto.offset.reset": "earliest",
            "enable.partition.eof": True,
            "fetch.wait.max.ms": 20,  # an end is told by a fetch that comes back empty
            "queued.min.messages": 1,  # one record of each partition is enough
            "fetch.queue.backoff.ms": 10,  # the next one's waits until that is taken; 1 s by default
            "fetch.message.max.bytes": 65_536,
        }
    )


def _oldest(reader: Consumer, ends: dict[Place, int]) -> Mapping[Place, datetime]:
    """When the next record of each partition was written; absent where none is left."""
    found: dict[Place, datetime] = {}
    deadline = time.monotonic() + _TIMEOUT
    while ends:
        message = reader.poll(0.5)
        if message is None:
            if time.monotonic() > deadline:
                raise DependencyDown(f"Kafka gave neither a record nor an end within {_TIMEOUT} s")
            continue
        place = message.topic() or "", message.partition() or 0
        if place in ends and (at := _written(message, ends[place])) is not None:
            found[place] = at
        ends.pop(place, None)
        reader.pause([TopicPartition(*place)])
    return found


def _written(message: Message, end: int) -> datetime | None:
    """When it was written; None at the end. Before the end, behind an open transaction: long ago."""
    error = message.error()
    if error is None:
        return moment(message.timestamp()[1])
    if error.code() != KafkaError._PARTITION_EOF:
        raise KafkaException(error)
    return None if (message.offset() or 0) >= end else datetime.fromtimestamp(0, UTC)
