"""Topics in memory, for driving a stage without a broker: records in, records out.

One partition a topic. Offsets are kept by the same `Tracker` as in the real consumer, so a stage that
commits too much loses records here as well.
"""

import asyncio
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime

from pipeline.adapters.kafka.tracker import Done, Partition, Tracker
from pipeline.model.errors import DependencyDown
from pipeline.model.record import Incoming, Outgoing


class MemoryKafka:
    """Every topic, and what the group has committed."""

    def __init__(self, clock: Callable[[], datetime]) -> None:
        self.clock = clock
        self.topics: dict[str, list[tuple[Outgoing, datetime]]] = defaultdict(list)
        self.committed: dict[Partition, int] = {}
        self.done: dict[Partition, Done] = {}  # the same, with what is done beyond
        self.down = False
        self.refusing = False  # no records, but offsets
        self.refused = 0  # calls

    def write(self, *records: Outgoing) -> None:
        """Append to their topics."""
        for record in records:
            self.topics[record.topic].append((record, self.clock()))

    def read(self, topic: str) -> list[Outgoing]:
        """What a topic holds."""
        return [record for record, _ in self.topics[topic]]


class MemoryProducer:
    """Writes to the topics; `DependencyDown` while they are down."""

    def __init__(self, kafka: MemoryKafka) -> None:
        self._kafka = kafka

    async def send_all(self, records: Sequence[Outgoing]) -> None:
        """All or nothing."""
        await asyncio.sleep(0)
        if self._kafka.refusing:
            self._kafka.refused += 1
        if self._kafka.down or self._kafka.refusing:
            raise DependencyDown("down for the test")
        self._kafka.write(*records)


class MemoryConsumer:
    """The only member of its group."""

    def __init__(self, kafka: MemoryKafka, topics: Iterable[str]) -> None:
        self._kafka = kafka
        self._topics = list(topics)
        self._tracker = Tracker()
        self._position: dict[str, int] = {}
        self.paused: set[Partition] = set()
        self.most = 0  # records worked on at once
        self.assign()

    def assign(self) -> None:
        """Take the partitions, again if they were taken before."""
        self.revoke()
        self._tracker.assign((topic, 0) for topic in self._topics)
        for partition, done in self._kafka.done.items():
            self._tracker.learn(partition, done)
        self._position = {topic: self._kafka.committed.get((topic, 0), 0) for topic in self._topics}
        self.paused = set()

    def revoke(self) -> None:
        """Lose the partitions."""
        self._tracker.revoke(self._tracker.assigned())
        self._position = {}

    @property
    def busy(self) -> int:
        """How many records are out."""
        return self._tracker.busy()

    async def fetch(self, rooms: Mapping[str, int], wait: float) -> list[Incoming]:
        """In the order of `rooms`; a wait is one turn of the loop, or a moment when nothing is there."""
        await asyncio.sleep(0)
        found: list[Incoming] = []
        for topic, room in rooms.items():
            if (topic, 0) in self.paused or topic not in self._position:
                continue
            start = self._position[topic]
            fresh = self._kafka.topics[topic][start : start + max(0, room - len(found))]
            for offset, (record, at) in enumerate(fresh, start):
                if (incoming := self._incoming(topic, offset, record, at)) is not None:
                    found.append(incoming)
            self._position[topic] += len(fresh)
        if not found:
            await asyncio.sleep(min(wait, 0.002))
        self.most = max(self.most, self.busy)
        return found

    def owns(self, record: Incoming) -> bool:
        """By assignment."""
        return self._tracker.owns((record.topic, record.partition), record.assignment)

    def abandon(self, records: Sequence[Incoming]) -> None:
        """Leave them open."""
        for record in records:
            self._tracker.abandon((record.topic, 0), record.offset, record.assignment)

    async def commit(self, records: Sequence[Incoming]) -> None:
        """Count as done and commit what is contiguous."""
        for record in records:
            self._tracker.done((record.topic, 0), record.offset, record.assignment)
        if self._kafka.down:
            raise DependencyDown("down for the test")
        offsets = self._tracker.committable()
        self._kafka.done |= offsets
        self._kafka.committed |= {partition: done.next for partition, done in offsets.items()}
        self._tracker.committed(offsets)

    def pause(self, partitions: Iterable[Partition]) -> None:
        """Read nothing from them."""
        self.paused |= set(partitions)

    def resume(self, partitions: Iterable[Partition]) -> None:
        """Read from them again."""
        self.paused -= set(partitions)

    def _incoming(self, topic: str, offset: int, record: Outgoing, at: datetime) -> Incoming | None:
        assignment = self._tracker.fetched((topic, 0), offset)
        if assignment is None:
            return None
        return Incoming(
            topic=topic,
            partition=0,
            offset=offset,
            key=record.key,
            value=record.value,
            headers=record.headers,
            at=at,
            assignment=assignment,
        )
