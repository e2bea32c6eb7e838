"""Topics: created from the table, checked against it, never silently changed in a way that loses.

Retention and the like are set right where they differ. The number of partitions is not changed here: a
user's key would move to another partition, whose router has never heard of the ids decided before (grow.py).
Nor are replicas: moving data between brokers is a plan of its own (kafka-reassign-partitions).
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from confluent_kafka import KafkaError, KafkaException, TopicCollection
from confluent_kafka.admin import (
    AdminClient,
    AlterConfigOpType,
    ConfigEntry,
    ConfigResource,
    NewTopic,
    ResourceType,
)

from pipeline.model.errors import ConfigurationError, DependencyDown
from pipeline.model.topics import DECISIONS, WINDOW, Topic

_TIMEOUT = 30.0  # seconds for one change of the cluster
_ANSWER = 10.0  # seconds for the first question, which tells whether anybody is there


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """What `apply` did, and what it could not do."""

    created: tuple[str, ...] = ()  # topics
    changed: tuple[str, ...] = ()  # topic: setting from → to
    drift: tuple[str, ...] = ()  # what stays different, in sentences


def apply(servers: str, topics: Sequence[Topic], replication: int) -> Report:
    """Create what is missing, set right what may be changed, say what may not.

    Doing it again changes nothing. Raises DependencyDown, ConfigurationError.
    """
    admin = _admin(servers)
    existing = _shapes(admin)
    new = [topic for topic in topics if topic.name not in existing]
    _create(admin, new, replication)
    old = [topic for topic in topics if topic.name in existing]
    wrong = _wrong_settings(admin, old, replication)
    _alter(admin, wrong)
    return Report(
        created=tuple(topic.name for topic in new),
        changed=tuple(_sentence(name, setting, now, want) for name, setting, now, want in wrong),
        drift=tuple(_drift(old, existing, replication)),
    )


def check(servers: str, topics: Sequence[Topic], replication: int) -> tuple[str, ...]:
    """Everything in which the cluster differs from the table, in sentences; nothing is changed."""
    admin = _admin(servers)
    existing = _shapes(admin)
    old = [topic for topic in topics if topic.name in existing]
    return (
        *(f"{topic.name} is missing" for topic in topics if topic.name not in existing),
        *_drift(old, existing, replication),
        *(_sentence(*wrong) for wrong in _wrong_settings(admin, old, replication)),
    )


def topic_id(servers: str, topic: str) -> str:
    """The id of this very topic: one that is made anew under the same name has another.

    Raises DependencyDown, ConfigurationError when it is not there.
    """
    admin = _admin(servers)  # kept: its answers come through it
    answers = admin.describe_topics(TopicCollection([topic]), request_timeout=_TIMEOUT)
    return str(_settled(f"looking at {topic}", answers[topic]).topic_id)


def settings(topic: Topic, replication: int) -> dict[str, str]:
    """The topic's settings, as Kafka names them."""
    return {
        "retention.ms": str(int(topic.retention.total_seconds() * 1000)),
        "cleanup.policy": topic.cleanup,
        # A lone broker has one copy; of three copies two must have a record before it is acknowledged.
        "min.insync.replicas": str(max(1, replication - 1)),
        # What is made of an event (its delivery, its dead letter) must fit wherever the event did.
        "max.message.bytes": str((1 if topic.schema == "event" else 2) * 1024 * 1024),
        "compression.type": "producer",  # kept as it came; the broker need not unpack it
        "message.timestamp.type": "LogAppendTime" if topic.name in (DECISIONS, WINDOW) else "CreateTime",
    }


_Wrong = tuple[str, str, str, str]  # topic, setting, value, wanted value


@dataclass(frozen=True, slots=True, kw_only=True)
class _Shape:
    """What of a topic is decided when it is made."""

    partitions: int
    replicas: int  # of the partition that has the fewest


def _admin(servers: str) -> AdminClient:
    return AdminClient(
        {"bootstrap.servers": servers, "socket.timeout.ms": int(_TIMEOUT * 1000), "log_level": 0}
    )


def _shapes(admin: AdminClient) -> Mapping[str, _Shape]:
    try:
        found = admin.list_topics(timeout=_ANSWER).topics
    except KafkaException as error:
        raise DependencyDown(f"Kafka does not answer: {error.args[0].str()}") from error
    return {
        name: _Shape(
            partitions=len(topic.partitions),
            replicas=min((len(one.replicas) for one in topic.partitions.values()), default=0),
        )
        for name, topic in found.items()
    }


def _create(admin: AdminClient, topics: Sequence[Topic], replication: int) -> None:
    if not topics:
        return
    new = [
        NewTopic(topic.name, topic.partitions, replication, config=settings(topic, replication))
        for topic in topics
    ]
    for name, answer in admin.create_topics(new, request_timeout=_TIMEOUT).items():
        _settled(f"creating {name}", answer, but=KafkaError.TOPIC_ALREADY_EXISTS)


def _wrong_settings(admin: AdminClient, topics: Sequence[Topic], replication: int) -> list[_Wrong]:
    if not topics:
        return []
    resources = {ConfigResource(ResourceType.TOPIC, topic.name): topic for topic in topics}
    answers = admin.describe_configs(list(resources), request_timeout=_TIMEOUT)
    found: list[_Wrong] = []
    for resource, topic in resources.items():
        now = _settled(f"reading the settings of {topic.name}", answers[resource])
        for setting, want in settings(topic, replication).items():
            value = now[setting].value
            if value != want:
                found.append((topic.name, setting, value, want))
    return found


def _alter(admin: AdminClient, wrong: Sequence[_Wrong]) -> None:
    by_topic: dict[str, list[ConfigEntry]] = {}
    for name, setting, _, want in wrong:
        entry = ConfigEntry(setting, want, incremental_operation=AlterConfigOpType.SET)
        by_topic.setdefault(name, []).append(entry)
    resources = [
        ConfigResource(ResourceType.TOPIC, name, incremental_configs=entries)
        for name, entries in by_topic.items()
    ]
    if resources:
        answers = admin.incremental_alter_configs(resources, request_timeout=_TIMEOUT)
        for resource, answer in answers.items():
            _settled(f"changing {resource.name}", answer)


def _drift(topics: Sequence[Topic], existing: Mapping[str, _Shape], replication: int) -> Iterator[str]:
    for topic in topics:
        there = existing[topic.name]
        if there.partitions != topic.partitions:
            yield (
                f"{topic.name} has {there.partitions} partitions, the table says {topic.partitions}: it stays so, "
                "or ids decided before would be forgotten; set EVERPOST_PARTITIONS to what is there, or see "
                "everpost topics grow"
            )
        if there.replicas != replication:
            yield (
                f"{topic.name} has {there.replicas} replicas, EVERPOST_REPLICATION says {replication}: it stays so; "
                "give it more with Kafka's own kafka-reassign-partitions, or change the setting"
            )


def _sentence(name: str, setting: str, now: str, want: str) -> str:
    return f"{name}: {setting} is {now}, the table says {want}"


def _settled(what: str, answer: Any, *, but: int | None = None) -> Any:
    try:
        return answer.result(_TIMEOUT)
    except KafkaException as failure:
        error: KafkaError = failure.args[0]
        if error.code() == but:
            return None
        if error.retriable() or error.code() == KafkaError._TIMED_OUT:
            raise DependencyDown(f"{what}: {error.str()}") from failure
        raise ConfigurationError(f"{what}: {error.str()}") from failure
    except TimeoutError as failure:
        raise DependencyDown(f"{what}: no answer within {_TIMEOUT} s") from failure
