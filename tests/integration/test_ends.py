"""Where partitions begin and end on a real broker, also after retention has cut some off."""

import secrets

import pytest
from confluent_kafka import Producer, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic

from infra.embedded import ports
from pipeline.adapters.kafka import ends
from pipeline.adapters.kafka.ends import begin_offsets, end_offsets
from pipeline.model.errors import ConfigurationError, DependencyDown

pytestmark = pytest.mark.integration
_ANSWER = 60.0  # seconds


def test_what_is_cut_off_moves_the_beginning_alone(kafka: str) -> None:
    """How much was ever written, and from where on it is still there."""
    topic = f"test-{secrets.token_hex(4)}"
    admin = AdminClient({"bootstrap.servers": kafka})
    admin.create_topics([NewTopic(topic, 2, 1)])[topic].result(_ANSWER)
    producer = Producer({"bootstrap.servers": kafka})
    for n in range(5):
        producer.produce(topic, str(n), partition=0)
    assert producer.flush(_ANSWER) == 0
    assert begin_offsets(kafka, [topic]) == {(topic, 0): 0, (topic, 1): 0}
    cut = TopicPartition(topic, 0, 3)
    admin.delete_records([cut])[cut].result(_ANSWER)
    assert begin_offsets(kafka, [topic]) == {(topic, 0): 3, (topic, 1): 0}
    assert end_offsets(kafka, [topic]) == {(topic, 0): 5, (topic, 1): 0}


def test_a_topic_that_is_not_there_is_named(kafka: str) -> None:
    """Nothing is counted as nothing that was never made."""
    with pytest.raises(ConfigurationError, match="no topic test-nobody: run everpost topics apply"):
        begin_offsets(kafka, ["test-nobody"])


def test_a_broker_that_is_away_is_told_in_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody answers: DependencyDown after the limit."""
    monkeypatch.setattr(ends, "_TIMEOUT", 0.5)
    with pytest.raises(DependencyDown, match="does not answer"):
        end_offsets(f"{ports.HOST}:{ports.free(1)[0]}", ["x"])
