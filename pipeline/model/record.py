"""A record of a topic as a step sees it, whichever client carries it."""

import struct
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Protocol, TypedDict

Headers = tuple[tuple[str, bytes], ...]
_SIZES = struct.Struct("=iii")


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


class Writable(Protocol):
    """What a producer takes: an `Outgoing`, or whatever else says the same; hashable."""

    @property
    def topic(self) -> str:
        """The topic."""
        ...

    @property
    def key(self) -> bytes | None:
        """The key."""
        ...

    @property
    def value(self) -> bytes | None:
        """The value."""
        ...

    @property
    def headers(self) -> Headers:
        """The headers."""
        ...

    @property
    def partition(self) -> int | None:
        """The partition; None: the key decides (murmur2)."""
        ...


class Message(TypedDict):
    """A record without headers, as the producer's batches take it."""

    value: bytes
    key: bytes | None
    partition: int  # -1: the key decides (murmur2)


@dataclass(slots=True, kw_only=True)
class Written:
    """What one transaction writes."""

    # By topic, one behind the other (see `pack`): millions of small objects would only be made to be read once.
    packed: dict[str, bytearray] = field(default_factory=dict[str, bytearray])
    letters: list[Outgoing] = field(default_factory=list[Outgoing])  # what has headers
    pages: dict[int, bytes] = field(default_factory=dict[int, bytes])  # of the window, by partition

    def add(self, record: Outgoing) -> None:
        """One record more."""
        if record.headers:
            self.letters.append(record)
        else:
            partition = -1 if record.partition is None else record.partition
            self.put(record.topic, record.value or b"", record.key, partition)

    def put(self, topic: str, value: bytes, key: bytes | None, partition: int) -> None:
        """One record more that has no headers."""
        packed = self.packed.get(topic)
        if packed is None:
            packed = self.packed[topic] = bytearray()
        packed += _SIZES.pack(partition, -1 if key is None else len(key), len(value))
        packed += key or b""
        packed += value


def unpack(packed: bytes | bytearray) -> Iterator[Message]:
    """Records as `Written.put` packs them: partition, size of the key (-1: none), size of the value, key, value.

    The numbers are of 32 bits in the machine's order.
    """
    at = 0
    while at < len(packed):
        partition, key, value = _SIZES.unpack_from(packed, at)
        begin = at + _SIZES.size
        middle = begin + max(key, 0)
        at = middle + value
        yield Message(
            value=bytes(packed[middle:at]),
            key=None if key < 0 else bytes(packed[begin:middle]),
            partition=partition,
        )
