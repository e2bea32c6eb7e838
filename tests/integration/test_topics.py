"""The topics on a real broker are those of the table: created, checked, set right, never cut anew."""

import secrets
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest
from confluent_kafka.admin import AdminClient, AlterConfigOpType, ConfigEntry, ConfigResource, ResourceType

from infra.embedded import ports
from pipeline.adapters.kafka import admin
from pipeline.adapters.kafka.admin import Report, apply, check, settings
from pipeline.model.errors import ConfigurationError, DependencyDown
from pipeline.model.topics import Topic, table
from tests.support.services import until

pytestmark = pytest.mark.integration
_ANSWER = 60.0  # seconds


@pytest.fixture
def topics() -> tuple[Topic, ...]:
    """The table under names of the test's own, for the broker is shared."""
    prefix = f"test-{secrets.token_hex(4)}"
    return tuple(replace(topic, name=f"{prefix}.{topic.name}") for topic in table(2))


def on_broker(servers: str, topic: Topic) -> Mapping[str, str]:
    """The topic's settings as the broker tells them."""
    client = AdminClient({"bootstrap.servers": servers})
    resource = ConfigResource(ResourceType.TOPIC, topic.name)
    found = client.describe_configs([resource])[resource].result(_ANSWER)
    return {name: entry.value for name, entry in found.items()}


def spoil(servers: str, topic: Topic, setting: str, value: str) -> None:
    """Change one setting behind everpost's back."""
    client = AdminClient({"bootstrap.servers": servers})
    entry = ConfigEntry(setting, value, incremental_operation=AlterConfigOpType.SET)
    resource = ConfigResource(ResourceType.TOPIC, topic.name, incremental_configs=[entry])
    client.incremental_alter_configs([resource])[resource].result(_ANSWER)
    until(lambda: on_broker(servers, topic)[setting] == value)


def clean(servers: str, topics: Sequence[Topic]) -> bool:
    """Whether the broker has caught up with what was just changed."""
    return check(servers, topics, 1) == ()


def test_everything_in_the_table_is_created_as_it_says(kafka: str, topics: tuple[Topic, ...]) -> None:
    """An empty cluster gets every topic with its partitions and settings; a second time changes nothing."""
    names = tuple(topic.name for topic in topics)
    assert check(kafka, topics, 1) == tuple(f"{name} is missing" for name in names)
    assert apply(kafka, topics, 1) == Report(created=names)
    until(lambda: clean(kafka, topics))
    assert apply(kafka, topics, 1) == Report()
    for topic in topics:
        assert settings(topic, 1).items() <= on_broker(kafka, topic).items()
    found = AdminClient({"bootstrap.servers": kafka}).list_topics(timeout=_ANSWER).topics
    assert {len(found[name].partitions) for name in names} == {2}


@pytest.mark.parametrize(
    ("setting", "value"),
    [
        ("retention.ms", "60000"),  # a minute: everything in flight would be lost
        ("cleanup.policy", "compact"),  # all but a user's last record would be lost
        ("min.insync.replicas", "2"),  # nothing could be written to a lone broker
        ("max.message.bytes", "1000"),  # an event that the door took could not be written
        ("compression.type", "gzip"),  # the broker would pack everything anew
        ("message.timestamp.type", "LogAppendTime"),  # retention would count from another instant
    ],
)
def test_a_setting_that_was_changed_is_told_and_set_right(
    kafka: str, topics: tuple[Topic, ...], setting: str, value: str
) -> None:
    """`check` names topic, setting and both values and changes nothing; `apply` puts it back."""
    topic = topics[0]
    apply(kafka, [topic], 1)
    until(lambda: clean(kafka, [topic]))
    spoil(kafka, topic, setting, value)
    sentence = f"{topic.name}: {setting} is {value}, the table says {settings(topic, 1)[setting]}"
    assert check(kafka, [topic], 1) == (sentence,)
    assert check(kafka, [topic], 1) == (sentence,)
    assert apply(kafka, [topic], 1) == Report(changed=(sentence,))
    until(lambda: clean(kafka, [topic]))


@pytest.mark.parametrize("wanted", [1, 8])
def test_partitions_are_never_changed(kafka: str, topics: tuple[Topic, ...], wanted: int) -> None:
    """More or fewer than there are: it is told with the reason and the way out, and nothing moves."""
    apply(kafka, topics[:1], 1)
    other = [replace(topics[0], partitions=wanted)]
    until(lambda: len(check(kafka, other, 1)) == 1)
    report = apply(kafka, other, 1)
    assert (report.created, report.changed) == ((), ())
    [sentence] = report.drift
    assert f"has 2 partitions, the table says {wanted}: it stays so" in sentence
    assert "EVERPOST_PARTITIONS" in sentence
    assert clean(kafka, topics[:1])


def test_missing_replicas_are_told(kafka: str, topics: tuple[Topic, ...]) -> None:
    """Who asks for three copies and has one hears it, and not only that two must be in step."""
    apply(kafka, topics[:1], 1)
    until(lambda: clean(kafka, topics[:1]))
    sentences = check(kafka, topics[:1], 3)
    assert any("has 1 replicas, EVERPOST_REPLICATION says 3" in sentence for sentence in sentences)


def test_two_at_the_same_time_are_one(kafka: str, topics: tuple[Topic, ...]) -> None:
    """Two deployments that start together both succeed, and the topics are there once."""
    with ThreadPoolExecutor(2) as pool:
        reports = [job.result() for job in [pool.submit(apply, kafka, topics, 1) for _ in range(2)]]
    assert all(report.drift == () for report in reports)
    until(lambda: clean(kafka, topics))


def test_more_replicas_than_brokers_are_refused(kafka: str, topics: tuple[Topic, ...]) -> None:
    """The message names the topic and what the broker says; a repeat would not help."""
    with pytest.raises(ConfigurationError, match=rf"creating {topics[0].name}: .*replication factor of 3"):
        apply(kafka, topics[:1], 3)


def test_a_broker_that_is_away_is_told_in_time(
    topics: tuple[Topic, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody answers: DependencyDown after the limit, so that the caller tries again later."""
    monkeypatch.setattr(admin, "_ANSWER", 0.5)
    with pytest.raises(DependencyDown, match="Kafka does not answer"):
        check(f"{ports.HOST}:{ports.free(1)[0]}", topics, 1)
