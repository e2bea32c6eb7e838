"""More partitions: what would be forgotten by it, and the change itself.

A router remembers what it has decided by partition number. With more partitions a key may belong to
another one (murmur2 modulo their number), whose router has never heard of the ids and the sends of that
user. So the question comes first, and answered exactly: by reading the decisions' keys.
"""

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from aiokafka.partitioner import murmur2
from confluent_kafka import Consumer, KafkaError, KafkaException, Message, TopicPartition
from confluent_kafka.admin import AdminClient, NewPartitions

from pipeline.adapters.kafka.ends import begin_offsets
from pipeline.model.errors import ConfigurationError, DependencyDown
from pipeline.model.moment import moment, ms

_TIMEOUT = 15.0  # seconds for one question, and without a record or an end while reading
_CHANGE = 30.0  # seconds for one change of the cluster
_BATCH = 10_000  # records taken at once
_AGAIN = 0.1  # seconds between two questions for a coordinator
# A group's coordinator is found when somebody first asks; the client does not ask again by itself.
_UNSETTLED = frozenset(
    {
        KafkaError.NOT_COORDINATOR,
        KafkaError.COORDINATOR_NOT_AVAILABLE,
        KafkaError.COORDINATOR_LOAD_IN_PROGRESS,
    }
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Remembered:
    """What routers know by partition number, and how much of it they would look for elsewhere."""

    decisions: int = 0
    moving: int = 0  # of these, about users whose events would go to another partition
    users: int = 0  # so many
    latest: datetime | None = None  # the last of those decisions


def counts(servers: str, topics: Sequence[str]) -> Mapping[str, int]:
    """How many partitions each of the topics has; those that are not there are left out.

    Raises DependencyDown.
    """
    try:
        found = _admin(servers).list_topics(timeout=_TIMEOUT).topics
    except KafkaException as error:
        raise DependencyDown(f"Kafka at {servers} does not answer: {error.args[0].str()}") from error
    return {name: len(found[name].partitions) for name in topics if name in found}


def require_alike(servers: str, topics: Sequence[str]) -> None:
    """Raise ConfigurationError unless these have equally many partitions: what comes of an event is
    written into its partition number, and there its repeat is looked for.

    Raises DependencyDown when Kafka does not answer. A topic that is not there yet is no difference.
    """
    found = counts(servers, topics)
    if len(set(found.values())) <= 1:
        return
    most = max(found.values())
    told = ", ".join(f"{name} has {count}" for name, count in found.items())
    raise ConfigurationError(
        f"partitions differ ({told}), so ids decided before would be looked for where nobody knows them. Nothing "
        f"is routed until all have {most}: everpost topics grow {most} says what that takes"
    )


def require_rest(servers: str, group: str, topics: Sequence[str]) -> None:
    """Raise ConfigurationError while a router runs or has records left to decide.

    Raises DependencyDown when Kafka does not answer.
    """
    if running := _members(servers, group):
        raise ConfigurationError(
            f"{running} routers run: stop them first, and everything that publishes. One that was stopped "
            "counts for 10 s more"
        )
    starts = _committed(servers, group, begin_offsets(servers, topics))
    if left := sum(1 for _ in _records(servers, starts)):
        raise ConfigurationError(
            f"{left:,} events and releases are not decided yet, and their partition is chosen already: let the "
            "routers finish (everpost ledger: undecided 0), with nobody publishing, then stop them"
        )


def _members(servers: str, group: str) -> int:
    """How many processes are in the group; none when nobody was ever in it."""
    admin = _admin(servers)
    deadline = time.monotonic() + _TIMEOUT
    while True:
        try:
            asked = admin.describe_consumer_groups([group], request_timeout=_TIMEOUT)
            return len(asked[group].result(_TIMEOUT).members)
        except KafkaException as failure:
            error: KafkaError = failure.args[0]
            if error.code() not in _UNSETTLED or time.monotonic() > deadline:
                raise DependencyDown(f"who is in the group {group}: {error.name()}") from failure
            time.sleep(_AGAIN)


def remembered(servers: str, decisions: str, partitions: int, since: datetime) -> Remembered:
    """What the decisions that were written since then tell, if there were so many partitions.

    Raises DependencyDown, ConfigurationError when the topic is not there.
    """
    at = ms(since)
    wanted = [TopicPartition(decisions, n, at) for _, n in begin_offsets(servers, [decisions])]
    consumer = _consumer(servers)
    try:
        starts = consumer.offsets_for_times(wanted, _TIMEOUT)
    except KafkaException as error:
        raise DependencyDown(f"where {decisions} begins: {error.args[0].str()}") from error
    finally:
        consumer.close()
    total = moving = latest = 0
    users = set[bytes]()
    for message in _records(servers, starts):
        total += 1
        key = message.key()
        # Without a key there was no event: nothing of it can come again.
        if isinstance(key, bytes) and partition_of(key, partitions) != message.partition():
            moving += 1
            users.add(key)
            latest = max(latest, message.timestamp()[1])
    return Remembered(
        decisions=total,
        moving=moving,
        users=len(users),
        latest=moment(latest) if moving else None,
    )


def partition_of(key: bytes, partitions: int) -> int:
    """Where every producer of everpost writes a key (Kafka's default: murmur2, positive, modulo)."""
    return (murmur2(key) & 0x7FFFFFFF) % partitions


def grow(servers: str, topics: Sequence[str], partitions: int) -> tuple[str, ...]:
    """Give the topics so many partitions, in this order; gives those that had fewer. Again is harmless.

    Whether that forgets anything must have been asked before. Raises DependencyDown, ConfigurationError.
    """
    found = counts(servers, topics)
    fewer = [name for name in topics if found.get(name, partitions) < partitions]
    admin = _admin(servers)
    for name in fewer:  # one by one: a crash leaves a beginning, and the order says what that means
        answer = admin.create_partitions([NewPartitions(name, partitions)], request_timeout=_CHANGE)[name]
        try:
            answer.result(_CHANGE)
        except KafkaException as failure:
            error: KafkaError = failure.args[0]
            away = error.retriable() or error.code() == KafkaError._TIMED_OUT
            kind = DependencyDown if away else ConfigurationError
            raise kind(f"more partitions for {name}: {error.str()}; the same command goes on") from failure
    return tuple(fewer)


def _admin(servers: str) -> AdminClient:
    return AdminClient(
        {"bootstrap.servers": servers, "socket.timeout.ms": int(_CHANGE * 1000), "log_level": 0}
    )


def _consumer(servers: str, group: str = "everpost.grow") -> Consumer:
    """A reader that joins no group and commits nothing."""
    return Consumer(
        {
            "bootstrap.servers": servers,
            "group.id": group,
            "enable.auto.commit": False,
            "isolation.level": "read_committed",
            "auto.offset.reset": "earliest",
            "enable.partition.eof": True,
            "fetch.queue.backoff.ms": 10,  # the default of 1 s stalls a fast reader
        }
    )


def _committed(servers: str, group: str, begins: Mapping[tuple[str, int], int]) -> Sequence[TopicPartition]:
    """Where the group reads on."""
    consumer = _consumer(servers, group)
    try:
        found = consumer.committed([TopicPartition(topic, n) for topic, n in begins], _TIMEOUT)
    except KafkaException as error:
        raise DependencyDown(f"committed offsets of {group}: {error.args[0].str()}") from error
    finally:
        consumer.close()
    return [TopicPartition(p.topic, p.partition, max(p.offset, begins[p.topic, p.partition])) for p in found]


def _records(servers: str, starts: Sequence[TopicPartition]) -> Iterator[Message]:
    """Every committed record from there to the ends.

    The last offset may be a transaction's marker, so the broker tells where the end is.
    """
    consumer = _consumer(servers)
    try:
        consumer.assign(list(starts))
        yield from _to_the_end(consumer, {(p.topic, p.partition) for p in starts})
    finally:
        consumer.close()


def _to_the_end(consumer: Consumer, unread: set[tuple[str, int]]) -> Iterator[Message]:
    heard = time.monotonic()
    while unread:
        messages = consumer.consume(_BATCH, 0.2)
        if messages:
            heard = time.monotonic()
        elif time.monotonic() - heard > _TIMEOUT:
            raise DependencyDown(f"Kafka gave neither a record nor an end within {_TIMEOUT} s")
        for message in messages:
            error = message.error()
            if error is None:
                yield message
            elif error.code() == KafkaError._PARTITION_EOF:
                unread.discard((message.topic() or "", message.partition() or 0))
            elif not error.retriable():
                raise DependencyDown(f"reading {message.topic()}: {error.str()}")
