"""The window of decided ids, as bytes: what the router writes for itself beside its decisions.

Reading decisions back costs 20 µs each, which would be 20 s for a million; a packed entry costs 2 µs.
Every transaction writes one record a partition number to `notification.window`, in the same transaction as
its decisions, so the two cannot part. All numbers are big-endian:

    version     1 byte, 1
    next        8 bytes for each of SOURCES: the first offset without a decision; -1: nothing new
    entries     4 bytes, how many; then 42 bytes each: id 16, place 1, verdict 1, offset 8, decided at 8, content 8
    sends       for the rest 24 bytes each: key 16, when 8

A moment is in milliseconds since 1970. Pure: no clock, no client.
"""

import hashlib
import struct
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import get_args

from pipeline.model.decision import Verdict
from pipeline.model.errors import Unreadable
from pipeline.model.event import LANES
from pipeline.model.topics import RELEASED, events

WINDOW = timedelta(days=7)  # how long an id is remembered
WINDOW_MS = WINDOW // timedelta(milliseconds=1)
SOURCES = (*(events(lane) for lane in LANES), RELEASED)  # by their place in the records: only ever append
PLACES: Mapping[str, int] = {topic: place for place, topic in enumerate(SOURCES)}
VERDICTS: tuple[Verdict, ...] = get_args(Verdict)  # likewise
NUMBERS: Mapping[Verdict, int] = {verdict: number for number, verdict in enumerate(VERDICTS)}

ID = 16  # bytes
NOTHING_NEW = -1
_VERSION = 1
_HEAD = struct.Struct(f">B{len(SOURCES)}qI")
_VALUE = struct.Struct(">BBqq8s")
_ENTRY = ID + _VALUE.size
_SEND = struct.Struct(f">{ID}sq")


def identity(*parts: bytes) -> bytes:
    """16 bytes that stand for one id: 4e-22 for a false match among 10^8, against a certain 0.007 a day with 8.

    The separator U+001F is not printable, so no part can hold it.
    """
    return hashlib.blake2b(b"\x1f".join(parts), digest_size=ID).digest()


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """The latest decision about an id."""

    topic: str
    offset: int
    verdict: Verdict
    at: int  # ms
    content: bytes  # Event.content


def pack(topic: str, offset: int, verdict: Verdict, at: int, content: bytes) -> bytes:
    """An entry as the 26 bytes behind an id; an empty content is eight zeros."""
    return _VALUE.pack(PLACES[topic], NUMBERS[verdict], offset, at, content or _NO_CONTENT)


def unpack(value: bytes) -> Entry:
    """The entry in the bytes of `pack`."""
    place, number, offset, at, content = _VALUE.unpack(value)
    return Entry(
        topic=SOURCES[place],
        offset=offset,
        verdict=VERDICTS[number],
        at=at,
        content=b"" if content == _NO_CONTENT else content,
    )


_NO_CONTENT = bytes(8)


def stale(value: bytes, now: int) -> bool:
    """Whether a packed entry, or a counter (its last 8 bytes are its latest send), is of no use any more."""
    at = value[10:18] if len(value) == _VALUE.size else value[-8:]
    return now - int.from_bytes(at) > WINDOW_MS


def age(value: bytes, now: int) -> int:
    """Milliseconds since a packed entry was decided."""
    return now - int.from_bytes(value[10:18])


@dataclass(slots=True)
class Page:
    """What one transaction adds to the window of one partition number."""

    next: list[int] = field(default_factory=lambda: [NOTHING_NEW] * len(SOURCES))
    entries: dict[bytes, bytes] = field(
        default_factory=dict[bytes, bytes]
    )  # id → packed; the last one counts
    sends: dict[bytes, list[int]] = field(default_factory=dict[bytes, list[int]])  # key → ms

    def decided(self, topic: str, offset: int) -> None:
        """The record has its decision."""
        place = PLACES[topic]
        self.next[place] = max(self.next[place], offset + 1)

    def sent(self, key: bytes, at: int) -> None:
        """Something was sent that counts towards a cap."""
        self.sends.setdefault(key, []).append(at)

    def encode(self) -> bytes:
        """The record's value."""
        head = _HEAD.pack(_VERSION, *self.next, len(self.entries))
        rows = b"".join(part for row in self.entries.items() for part in row)
        sends = b"".join(_SEND.pack(key, at) for key, times in self.sends.items() for at in times)
        return head + rows + sends


def decode(value: bytes) -> Page:
    """The page in the bytes of `encode`. Raises Unreadable."""
    try:
        version, *next, count = _HEAD.unpack_from(value)
        middle = _HEAD.size + count * _ENTRY
        if version != _VERSION or middle > len(value):
            raise Unreadable(
                f"no page of the window: version {version}, {count} entries in {len(value)} bytes"
            )
        page = Page(next, dict(_rows(value, middle)))
        for key, at in _SEND.iter_unpack(value[middle:]):
            page.sends.setdefault(key, []).append(at)
    except struct.error as damage:
        raise Unreadable(f"no page of the window: {damage}") from damage
    return page


def _rows(value: bytes, end: int) -> Iterator[tuple[bytes, bytes]]:
    for begin in range(_HEAD.size, end, _ENTRY):
        yield value[begin : begin + ID], value[begin + ID : begin + _ENTRY]


def merged(before: Sequence[int], new: Sequence[int]) -> list[int]:
    """The next offsets after both."""
    return [max(pair) for pair in zip(before, new, strict=True)]
