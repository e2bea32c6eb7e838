"""A record of a topic as a step sees it, whichever client carries it."""

from dataclasses import dataclass
from datetime import datetime

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
class Outgoing:
    """A record to be written. Without a partition the key decides (murmur2)."""

    topic: str
    key: bytes | None
    value: bytes | None
    headers: Headers = ()
    partition: int | None = None
