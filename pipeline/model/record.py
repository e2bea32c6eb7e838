"""A record of a topic as a step sees it, whichever client carries it."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import TypedDict

Headers = tuple[tuple[str, bytes], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Incoming:
    """A record that was read."""

    topic: str
    partition: int
    offset: int
    key: bytes | None
    value: bytes | None
    headers: Headers = ()
    at: datetime  # when it was written, as the broker tells it; UTC
    assignment: int = 0  # under which assignment of its partition it was read; grows with each


@dataclass(frozen=True, slots=True, kw_only=True)
class Records:
    """Records that were read, column by column: most of them nobody looks at as a whole."""

    topics: Sequence[str]
    partitions: Sequence[int]
    offsets: Sequence[int]
    keys: Sequence[bytes | None]
    values: Sequence[bytes | None]
    whole: Callable[[int], Incoming]

    def __len__(self) -> int:
        return len(self.offsets)

    @classmethod
    def of(cls, records: Sequence[Incoming]) -> "Records":
        """The same as columns."""
        return cls(
            topics=[record.topic for record in records],
            partitions=[record.partition for record in records],
            offsets=[record.offset for record in records],
            keys=[record.key for record in records],
            values=[record.value for record in records],
            whole=records.__getitem__,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Outgoing:
    """A record to be written. Without a partition the key decides (murmur2)."""

    topic: str
    key: bytes | None
    value: bytes | None
    headers: Headers = ()
    partition: int | None = None


class Message(TypedDict):
    """A record without headers, as the producer's batches take it."""

    value: bytes
    key: bytes | None
    partition: int  # -1: the key decides (murmur2)


@dataclass(slots=True, kw_only=True)
class Written:
    """What one transaction writes."""

    messages: dict[str, list[Message]] = field(default_factory=dict[str, list[Message]])  # by topic
    letters: list[Outgoing] = field(default_factory=list[Outgoing])  # what has headers
    pages: dict[int, bytes] = field(default_factory=dict[int, bytes])  # of the window, by partition

    def add(self, record: Outgoing) -> None:
        """One record more."""
        if record.headers:
            self.letters.append(record)
        else:
            partition = -1 if record.partition is None else record.partition
            message = Message(value=record.value or b"", key=record.key, partition=partition)
            self.messages.setdefault(record.topic, []).append(message)
