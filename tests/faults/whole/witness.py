"""A reader of committed records that is there all the time, and what it saw of the router's output.

An anomaly that passes, such as a record that is handed out and is gone later, is seen by nobody who reads at
the end only.
"""

import threading
import zlib
from collections import Counter
from collections.abc import Sequence
from types import TracebackType
from typing import Self

from confluent_kafka import OFFSET_BEGINNING, Consumer, Message, TopicPartition

from tests.faults.whole.books import Place

Seen = tuple[Place, int]  # where, and a checksum of what


def seen(message: Message) -> Seen:
    """What the witness remembers of a record."""
    topic, partition, offset = message.topic(), message.partition(), message.offset()
    assert topic is not None
    assert partition is not None
    assert offset is not None
    return (topic, partition, offset), zlib.crc32(message.value() or b"")


class Witness:
    """A thread that reads every committed record of these topics while the block runs."""

    def __init__(self, servers: str, topics: Sequence[str], partitions: int) -> None:
        self.seen: Counter[Seen] = Counter()
        self._servers = servers
        self._places = [TopicPartition(t, n, OFFSET_BEGINNING) for t in topics for n in range(partitions)]
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="witness")

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop.set()
        self._thread.join()

    def _run(self) -> None:
        consumer = Consumer(
            {
                "bootstrap.servers": self._servers,
                "group.id": "witness",  # required by the client; never joined
                "enable.auto.commit": False,
                "isolation.level": "read_committed",
                "reconnect.backoff.max.ms": 250,
                "log_level": 0,  # it tells of every try while a broker is away
            }
        )
        try:
            consumer.assign(self._places)
            while not self._stop.is_set():
                self.seen.update(seen(m) for m in consumer.consume(500, 0.2) if m.error() is None)
        finally:
            consumer.close()
