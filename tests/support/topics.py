"""Real topics for tests. The broker is shared, so a test knows its records by a tenant of its own."""

import time
from collections.abc import Sequence
from typing import cast

from confluent_kafka import OFFSET_BEGINNING, Consumer, KafkaError, KafkaException, Message, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic, OffsetSpec

from pipeline.model.topics import table
from tests.support.services import until

_ANSWER = 15.0  # seconds
_READING = 60.0  # seconds for a whole topic


def create_topics(servers: str, partitions: int = 4) -> None:
    """All topics of everpost; those that exist stay as they are."""
    new = [NewTopic(topic.name, partitions, 1) for topic in table(partitions)]
    admin = AdminClient({"bootstrap.servers": servers})  # has to outlive what it promised
    made = admin.create_topics(new, request_timeout=_ANSWER)
    for future in made.values():
        try:
            future.result(_ANSWER)
        except KafkaException as error:
            if error.args[0].name() != "TOPIC_ALREADY_EXISTS":
                raise
    until(
        lambda: _led(admin, [TopicPartition(topic.topic, n) for topic in new for n in range(partitions)]), 30
    )


def _led(admin: AdminClient, places: Sequence[TopicPartition]) -> bool:
    """Whether every partition has a leader; a new one takes a moment."""
    latest: dict[TopicPartition, OffsetSpec] = dict.fromkeys(places, cast("OffsetSpec", OffsetSpec.latest()))
    asked = admin.list_offsets(latest, request_timeout=_ANSWER)
    return all(future.exception(_ANSWER) is None for future in asked.values())


def read_tenant(servers: str, topic: str, tenant: str) -> Sequence[Message]:
    """Every committed record of a topic whose key belongs to the tenant, in order by partition."""
    consumer = Consumer(
        {
            "bootstrap.servers": servers,
            "group.id": f"test-{tenant}",
            "enable.auto.commit": False,
            # Told by the broker: the last offset may be a transaction's marker, which no one is handed.
            "enable.partition.eof": True,
        }
    )
    try:
        numbers = consumer.list_topics(topic, _ANSWER).topics[topic].partitions
        consumer.assign([TopicPartition(topic, n, OFFSET_BEGINNING) for n in numbers])
        found, ended = list[Message](), set[int]()
        end = time.monotonic() + _READING
        while len(ended) < len(numbers):
            assert time.monotonic() < end, f"{topic} is not read within {_READING} s"
            for message in consumer.consume(100, 0.05):
                if (error := message.error()) is None:
                    found.append(message)
                elif error.code() == KafkaError._PARTITION_EOF:
                    ended.add(message.partition() or 0)
                else:
                    raise KafkaException(error)
        return [m for m in sorted(found, key=lambda m: (m.partition(), m.offset())) if _of(m, tenant)]
    finally:
        consumer.close()


def lag(servers: str, group: str, topics: Sequence[str]) -> int:
    """How many records of these topics the group has not committed."""
    consumer = Consumer({"bootstrap.servers": servers, "group.id": group, "enable.auto.commit": False})
    try:
        known = consumer.list_topics(timeout=_ANSWER).topics
        places = [TopicPartition(topic, number) for topic in topics for number in known[topic].partitions]
        left = 0
        try:
            committed = consumer.committed(places, _ANSWER)
        except KafkaException:  # a new group's coordinator takes a moment: nothing is known yet
            return len(places)
        for place in committed:
            _, end = consumer.get_watermark_offsets(place, _ANSWER)
            left += end - max(place.offset, 0)
        return left
    finally:
        consumer.close()


def _of(message: Message, tenant: str) -> bool:
    key = message.key()
    return isinstance(key, bytes) and key.startswith(tenant.encode() + b"/")
