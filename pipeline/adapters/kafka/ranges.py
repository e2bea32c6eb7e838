"""Frozen parts of topics: chosen once by their offsets, then read as often as needed, always the same."""

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from typing import cast

from confluent_kafka import Consumer, KafkaError, KafkaException, Message, TopicPartition

from pipeline.model.dead import Letter
from pipeline.model.errors import ConfigurationError, DependencyDown
from pipeline.model.moment import ms
from pipeline.model.replay import Range

_TIMEOUT = 15.0  # seconds for one question, or without a record or an end, after which Kafka counts as away
_AGAIN = 0.1  # seconds between two questions for a leader
_AT_ONCE = 5_000  # letters
Place = tuple[str, int]  # topic, partition


def consumer(servers: str, group: str) -> Consumer:
    """A reader that joins no group and commits nothing by itself."""
    return Consumer(
        {
            "bootstrap.servers": servers,
            "log_level": 0,  # what matters comes back as an error
            "group.id": group,
            "enable.auto.commit": False,
            "isolation.level": "read_committed",
            "auto.offset.reset": "earliest",  # what retention has taken meanwhile is gone
            "enable.partition.eof": True,
            "fetch.queue.backoff.ms": 10,  # the default of 1 s stalls a fast reader
            "queued.max.messages.kbytes": 131_072,
        }
    )


def freeze(servers: str, topics: Sequence[str], since: datetime | None) -> tuple[Range, ...]:
    """What the topics hold at this moment, from the first record that was written since then.

    Raises DependencyDown when Kafka does not answer, ConfigurationError when a topic is not there.
    """
    reader = consumer(servers, "everpost.replay")
    try:
        known = reader.list_topics(timeout=_TIMEOUT).topics
        if missing := [topic for topic in topics if topic not in known]:
            raise ConfigurationError(f"no topic {', '.join(missing)}: run everpost topics apply")
        places = [(topic, number) for topic in topics for number in sorted(known[topic].partitions)]
        bounds = {place: _bounds(reader, place) for place in places}
        begins = {} if since is None else _offsets_at(reader, places, since)
    except KafkaException as failure:
        raise DependencyDown(f"Kafka does not answer: {failure.args[0].str()}") from failure
    finally:
        reader.close()
    return tuple(
        Range(topic=place[0], partition=place[1], first=max(low, begins.get(place, low)), end=high)
        for place, (low, high) in bounds.items()
        if begins.get(place, low) < high
    )


def _bounds(reader: Consumer, place: Place) -> tuple[int, int]:
    """The first offset and the next one to be written."""
    deadline = time.monotonic() + _TIMEOUT
    while True:
        try:
            return reader.get_watermark_offsets(TopicPartition(*place), _TIMEOUT)
        except KafkaException as failure:
            # A topic that was just created has no leader yet; the client asks again with newer metadata.
            if failure.args[0].code() != KafkaError.NOT_LEADER_FOR_PARTITION or time.monotonic() > deadline:
                raise
            time.sleep(_AGAIN)


def _offsets_at(reader: Consumer, places: Sequence[Place], since: datetime) -> dict[Place, int]:
    """The first offset of each written since then; beyond the end where there is none."""
    at = ms(since)
    found = reader.offsets_for_times([TopicPartition(*place, at) for place in places], _TIMEOUT)
    return {(one.topic, one.partition): one.offset if one.offset >= 0 else 1 << 62 for one in found}


def not_passed(servers: str, group: str, ranges: Sequence[Range]) -> tuple[Range, ...]:
    """Of the ranges what the group has not committed yet. Raises DependencyDown."""
    if not ranges:
        return ()
    reader = consumer(servers, group)
    try:
        found = reader.committed([TopicPartition(r.topic, r.partition) for r in ranges], _TIMEOUT)
    except KafkaException as failure:
        raise DependencyDown(f"Kafka does not answer: {failure.args[0].str()}") from failure
    finally:
        reader.close()
    passed = {(at.topic, at.partition): at.offset for at in found}
    left = [replace(r, first=max(r.first, passed[r.topic, r.partition])) for r in ranges]
    return tuple(one for one in left if one.first < one.end)


class RangeReader:
    """Reads ranges to their ends, each partition in order. Not thread-safe."""

    def __init__(self, servers: str, ranges: Sequence[Range], starts: Mapping[Place, int]) -> None:
        """`starts`: where to read on, by partition; absent: at the range's own beginning."""
        self._ends = {(r.topic, r.partition): r.end for r in ranges}
        begins = {(r.topic, r.partition): max(r.first, starts.get((r.topic, r.partition), 0)) for r in ranges}
        self._open = {place for place, begin in begins.items() if begin < self._ends[place]}
        self._reader = consumer(servers, "everpost.replay")
        self._reader.assign([TopicPartition(*place, begins[place]) for place in sorted(self._open)])

    @property
    def done(self) -> bool:
        """Whether every range is read."""
        return not self._open

    def read(self, limit: int) -> list[Letter]:
        """Up to `limit` letters; none only when all are read. Raises DependencyDown."""
        found: list[Letter] = []
        deadline = time.monotonic() + _TIMEOUT
        while self._open and not found:
            # With a wait as limit the client would use all of it unless `limit` records are there.
            first = self._reader.poll(0.5)
            messages = [] if first is None else [first, *self._reader.consume(limit - 1, 0)]
            for message in messages:
                self._take(message, found)
            if not messages and time.monotonic() > deadline:
                raise DependencyDown(f"Kafka gave neither a record nor an end within {_TIMEOUT} s")
        return found

    def close(self) -> None:
        """Let go of the connections."""
        self._reader.close()

    def _take(self, message: Message, found: list[Letter]) -> None:
        place, offset = (message.topic() or "", message.partition() or 0), message.offset() or 0
        error = message.error()
        if error is not None:
            if error.code() != KafkaError._PARTITION_EOF:
                raise DependencyDown(f"reading {place[0]}: {error.str()}")
            self._open.discard(place)  # what was frozen lies before the end
            return
        end = self._ends[place]
        if offset < end:
            found.append(_letter(message, place, offset))
        if offset >= end - 1 and place in self._open:
            self._open.discard(place)
            self._reader.pause([TopicPartition(*place)])


def read_all(servers: str, ranges: Sequence[Range]) -> Iterator[Letter]:
    """All letters of these ranges. Raises DependencyDown."""
    reader = RangeReader(servers, ranges, {})
    try:
        while letters := reader.read(_AT_ONCE):
            yield from letters
    finally:
        reader.close()


def _letter(message: Message, place: Place, offset: int) -> Letter:
    # A header may have no value; whoever reads one by name takes that for an empty one.
    headers = cast("list[tuple[str, bytes]]", message.headers() or [])
    return Letter(
        place[0], place[1], offset, message.key(), message.value() or b"", message.timestamp()[1],
        dict(headers), headers,
    )  # fmt: skip
