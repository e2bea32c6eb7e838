"""Watches a contestant: its group's progress, its processor time, its memory; and reads what it wrote."""

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from io import BytesIO

import psutil
from confluent_kafka import Consumer, KafkaException, TopicPartition

from pipeline.adapters.kafka.readback import values

PARTITIONS = 4
_LONGEST = 900.0  # seconds for one turn
_LOOK = 0.05  # seconds between two looks
_FROM_THE_BEGINNING = datetime(2020, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True, kw_only=True)
class Figures:
    """One turn of one contestant."""

    events_per_second: float  # from its first commit to the end of the input
    first_commit: float  # seconds after its start
    cpu: float  # seconds of all its processes, from start to end
    rss_mb: float  # the largest of its processes, the greatest seen


def watch(servers: str, group: str, topic: str, events: int, processes: Sequence[psutil.Process]) -> Figures:
    """Wait until the group has committed the whole input."""
    consumer = Consumer({"bootstrap.servers": servers, "group.id": group, "enable.auto.commit": False})
    places = [TopicPartition(topic, number) for number in range(PARTITIONS)]
    began = time.monotonic()
    first: tuple[float, int] | None = None
    rss = 0.0
    try:
        while True:
            done, now = _done(consumer, places), time.monotonic()
            rss = max(rss, *(process.memory_info().rss / 1e6 for process in processes))
            if done and first is None:
                first = (now, done)
            if done >= events and first is not None:
                break
            if any(process.status() == psutil.STATUS_ZOMBIE for process in processes):
                raise RuntimeError(f"a process of {group} has ended: its own words are above")
            if now - began > _LONGEST:
                raise TimeoutError(f"{group} has committed {done} of {events} in {_LONGEST} s")
            time.sleep(_LOOK)
    finally:
        consumer.close()
    times = [process.cpu_times() for process in processes]
    return Figures(
        events_per_second=(events - first[1]) / max(now - first[0], _LOOK),
        first_commit=first[0] - began,
        cpu=sum(t.user + t.system for t in times),
        rss_mb=rss,
    )


def committed_values(servers: str, topic: str) -> Iterator[BytesIO]:
    """The value of every committed record of a topic."""
    for value in values(servers, topic, range(PARTITIONS), _FROM_THE_BEGINNING):
        yield BytesIO(value)


def _done(consumer: Consumer, places: list[TopicPartition]) -> int:
    try:
        return sum(max(0, place.offset) for place in consumer.committed(places, timeout=5))
    except KafkaException:  # a new group's coordinator takes a moment
        return 0
