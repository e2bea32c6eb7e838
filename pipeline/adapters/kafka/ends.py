"""Where the partitions of topics begin and end: how much was ever written, and how much of it is still there."""

from collections.abc import Mapping, Sequence

from confluent_kafka import KafkaException, TopicPartition
from confluent_kafka.admin import AdminClient, OffsetSpec

from pipeline.model.errors import ConfigurationError, DependencyDown

_TIMEOUT = 10.0  # seconds for each of the two questions


def end_offsets(servers: str, topics: Sequence[str]) -> Mapping[tuple[str, int], int]:
    """The next offset of every partition of the topics, by (topic, partition).

    Raises DependencyDown when Kafka does not answer, ConfigurationError when a topic is not there.
    """
    return _offsets(servers, topics, OffsetSpec.latest())


def begin_offsets(servers: str, topics: Sequence[str]) -> Mapping[tuple[str, int], int]:
    """The first offset that retention has left, likewise. Raises as `end_offsets`."""
    return _offsets(servers, topics, OffsetSpec.earliest())


def _offsets(servers: str, topics: Sequence[str], spec: OffsetSpec | None) -> Mapping[tuple[str, int], int]:
    admin = AdminClient(
        {"bootstrap.servers": servers, "socket.timeout.ms": int(_TIMEOUT * 1000), "log_level": 0}
    )
    try:
        found = admin.list_topics(timeout=_TIMEOUT).topics
        if missing := [topic for topic in topics if topic not in found]:
            raise ConfigurationError(f"no topic {', '.join(missing)}: run everpost topics apply")
        wanted = {
            TopicPartition(topic, partition): spec
            for topic in topics
            for partition in found[topic].partitions
        }
        answers = admin.list_offsets(wanted, request_timeout=_TIMEOUT)  # pyright: ignore[reportArgumentType] - its stub says LatestSpec | None
        return {(at.topic, at.partition): answer.result(_TIMEOUT).offset for at, answer in answers.items()}
    except KafkaException as error:
        raise DependencyDown(f"Kafka at {servers} does not answer: {error.args[0].str()}") from error
    except TimeoutError as error:
        raise DependencyDown(f"Kafka at {servers} gave no offsets within {_TIMEOUT} s") from error
