"""Where the partitions of topics begin and end: how much was ever written, and how much of it is still there."""

import time
from collections.abc import Mapping, Sequence
from datetime import datetime

from confluent_kafka import KafkaError, KafkaException, TopicPartition
from confluent_kafka.admin import AdminClient, OffsetSpec

from pipeline.model.errors import ConfigurationError, DependencyDown
from pipeline.model.moment import ms

_TIMEOUT = 10.0  # seconds for each of the two questions
_AGAIN = 0.1  # seconds between two questions for a leader


def end_offsets(servers: str, topics: Sequence[str]) -> Mapping[tuple[str, int], int]:
    """The next offset of every partition of the topics, by (topic, partition).

    Raises DependencyDown when Kafka does not answer, ConfigurationError when a topic is not there.
    """
    return _offsets(servers, topics, OffsetSpec.latest())


def begin_offsets(servers: str, topics: Sequence[str]) -> Mapping[tuple[str, int], int]:
    """The first offset that retention has left, likewise. Raises as `end_offsets`."""
    return _offsets(servers, topics, OffsetSpec.earliest())


def offsets_at(servers: str, topics: Sequence[str], at: datetime) -> Mapping[tuple[str, int], int]:
    """The first offset that was written at this moment or later; the end where there is none.

    Raises as `end_offsets`.
    """
    ends = end_offsets(servers, topics)
    found = _offsets(servers, topics, OffsetSpec.for_timestamp(ms(at)))
    return {place: offset if offset >= 0 else ends[place] for place, offset in found.items()}


def _offsets(servers: str, topics: Sequence[str], spec: OffsetSpec | None) -> Mapping[tuple[str, int], int]:
    admin = AdminClient(
        {"bootstrap.servers": servers, "socket.timeout.ms": int(_TIMEOUT * 1000), "log_level": 0}
    )
    deadline = time.monotonic() + _TIMEOUT
    while True:
        try:
            return _asked(admin, topics, spec)
        except KafkaException as error:
            # A topic that was just created has no leader yet; the client asks again with newer metadata.
            passing = error.args[0].code() == KafkaError.NOT_LEADER_FOR_PARTITION
            if not passing or time.monotonic() > deadline:
                raise DependencyDown(f"Kafka at {servers} does not answer: {error.args[0].str()}") from error
            time.sleep(_AGAIN)
        except TimeoutError as error:
            raise DependencyDown(f"Kafka at {servers} gave no offsets within {_TIMEOUT} s") from error


def _asked(
    admin: AdminClient, topics: Sequence[str], spec: OffsetSpec | None
) -> Mapping[tuple[str, int], int]:
    found = admin.list_topics(timeout=_TIMEOUT).topics
    if missing := [topic for topic in topics if topic not in found]:
        raise ConfigurationError(f"no topic {', '.join(missing)}: run everpost topics apply")
    wanted = {
        TopicPartition(topic, partition): spec for topic in topics for partition in found[topic].partitions
    }
    answers = admin.list_offsets(wanted, request_timeout=_TIMEOUT)  # pyright: ignore[reportArgumentType] - its stub says LatestSpec | None
    return {(at.topic, at.partition): answer.result(_TIMEOUT).offset for at, answer in answers.items()}
