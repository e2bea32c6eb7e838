"""Real topics for tests. The broker is shared, so a test knows its records by a tenant of its own."""

import time
from collections.abc import Iterator, Sequence
from typing import cast

from confluent_kafka import OFFSET_BEGINNING, Consumer, KafkaError, KafkaException, Message, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic, OffsetSpec

from pipeline.model.topics import table
from tests.support.services import until

_ANSWER = 60.0  # seconds
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
    until(lambda: _led(admin, [TopicPartition(topic.topic, n) for topic in new for n in range(partitions)]))


def _led(admin: AdminClient, places: Sequence[TopicPartition]) -> bool:
    """Whether every partition has a leader; a new one takes a moment."""
    latest: dict[TopicPartition, OffsetSpec] = dict.fromkeys(places, cast("OffsetSpec", OffsetSpec.latest()))
    asked = admin.list_offsets(latest, request_timeout=_ANSWER)
    return all(future.exception(_ANSWER) is None for future in asked.values())


def read_tenant(servers: str, topic: str, tenant: str) -> Sequence[Message]:
    """Every committed record of a topic whose key belongs to the tenant, in order by partition."""
    return [message for message in read_topic(servers, topic) if _of(message, tenant)]


def read_topic(servers: str, topic: str) -> Sequence[Message]:
    """Every committed record of a topic, in order by partition."""
    admin = AdminClient({"bootstrap.servers": servers})
    numbers = admin.list_topics(topic, _ANSWER).topics[topic].partitions
    starts = [TopicPartition(topic, number, OFFSET_BEGINNING) for number in numbers]
    return sorted(_to_the_end(servers, f"test-{topic}", starts), key=lambda m: (m.partition(), m.offset()))


def lag(servers: str, group: str, topics: Sequence[str]) -> int:
    """How many committed records of these topics lie beyond what the group has committed.

    They are counted by reading them: the end of a topic that is written in transactions lies behind a
    marker, which no group ever commits.
    """
    try:
        starts = _committed(servers, group, topics)
    except KafkaException:  # a new group's coordinator takes a moment: nothing is known yet
        return len(topics)
    return sum(1 for _ in _to_the_end(servers, f"lag-{group}", starts))


def unread(servers: str, group: str, topics: Sequence[str]) -> Sequence[Message]:
    """The committed records of these topics beyond what the group has committed."""
    return list(_to_the_end(servers, f"unread-{group}", _committed(servers, group, topics)))


def _committed(servers: str, group: str, topics: Sequence[str]) -> Sequence[TopicPartition]:
    """Where the group goes on. Raises KafkaException when its coordinator does not answer."""
    consumer = Consumer({"bootstrap.servers": servers, "group.id": group, "enable.auto.commit": False})
    try:
        known = consumer.list_topics(timeout=_ANSWER).topics
        places = [TopicPartition(topic, number) for topic in topics for number in known[topic].partitions]
        found = consumer.committed(places, _ANSWER)
    finally:
        consumer.close()
    return [TopicPartition(p.topic, p.partition, max(p.offset, 0)) for p in found]


def _to_the_end(servers: str, group: str, starts: Sequence[TopicPartition]) -> Iterator[Message]:
    """Every committed record from these places on."""
    consumer = Consumer(
        {
            "bootstrap.servers": servers,
            "group.id": group,
            "enable.auto.commit": False,
            # Told by the broker: the last offset may be a transaction's marker, which no one is handed.
            "enable.partition.eof": True,
            "fetch.wait.max.ms": 10,  # what tells of an end is a fetch that comes back empty: after 500
        }
    )
    try:
        consumer.assign(list(starts))
        ended = set[tuple[str | None, int | None]]()
        deadline = time.monotonic() + _READING
        while len(ended) < len(starts):
            assert time.monotonic() < deadline, f"{starts} are not read within {_READING} s"
            for message in consumer.consume(100, 0.05):
                if (error := message.error()) is None:
                    yield message
                elif error.code() == KafkaError._PARTITION_EOF:
                    ended.add((message.topic(), message.partition()))
                else:
                    raise KafkaException(error)
    finally:
        consumer.close()


def _of(message: Message, tenant: str) -> bool:
    key = message.key()
    return isinstance(key, bytes) and key.startswith(tenant.encode() + b"/")
