"""What the router remembers: what it has decided, up to which record, and what it has sent.

`notification.window` is the truth, written in the transaction of the decisions. A local store keeps what
was read from it, with a marker up to where, so that a restart reads only the rest. The store changes only
after the commit: changing it before lost 7,066 of 112,430 events in a trial.
"""

import struct
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Protocol

from pipeline.model import window
from pipeline.model.moment import ms
from pipeline.model.window import SOURCES, WINDOW, WINDOW_MS, Page
from pipeline.observe import Log
from pipeline.ports import Clock

ReadBack = Callable[[Mapping[int, int | datetime]], Iterable[tuple[int, int, bytes]]]
"""(partition, offset, value) of the window's records, from an offset or a moment on."""

_MARKER = struct.Struct(
    f">q{len(SOURCES)}q"
)  # the first offset that is not in the store, then the next offsets
_TIMES = struct.Struct(">q")
_SWEEP = timedelta(hours=12)
_log = Log(__name__)


class Store(Protocol):
    """Keys and values of each partition number, on disk."""

    def get(self, partition: int, key: bytes) -> bytes | None:
        """The value, if there is one."""
        ...

    def write(self, partition: int, rows: Iterable[tuple[bytes, bytes]]) -> None:
        """All of them, or none when the process dies."""
        ...

    def clear(self, partition: int) -> None:
        """Forget the partition."""
        ...

    def sweep(self, stale: Callable[[bytes, bytes], bool]) -> bool:
        """Remove the stale ones of the next rows; True when all rows have been looked at."""
        ...


class RouterState:
    """What this process knows of the partitions that it owns."""

    def __init__(
        self, store: Store, read_back: ReadBack, ends: Callable[[], Mapping[int, int]], clock: Clock
    ) -> None:
        self._store = store
        self._read_back = read_back
        self._ends = ends
        self._clock = clock
        self._next: dict[int, list[int]] = {}
        self._sweep_at = clock() + _SWEEP

    def restore(self, partitions: Sequence[int]) -> None:
        """Own these partitions and no others, and catch up with the window.

        Raises DependencyDown when Kafka is away, and Unreadable when a page cannot be read: going on
        without it could send twice.
        """
        self._next = {}
        starts: dict[int, int | datetime] = {}
        ends = self._ends() if partitions else {}
        for partition in partitions:
            marker, self._next[partition] = self._marker(partition)
            if marker > ends[partition]:  # of another log: the topic was made anew
                self._store.clear(partition)
                marker, self._next[partition] = self._marker(partition)
            starts[partition] = marker or self._clock() - WINDOW
        pages = 0
        for partition, offset, value in self._read_back(starts):
            self._take(partition, window.decode(value), offset + 1)
            pages += 1
        _log.info("state.restored", partitions=list(partitions), pages=pages)

    def next_offset(self, topic: str, partition: int) -> int:
        """The first offset of the topic's partition that has no decision."""
        return self._next[partition][window.PLACES[topic]]

    def decided(self, partition: int, id: bytes, now: int) -> bytes | None:
        """The latest decision about the id within the window, packed; `now` in ms."""
        found = self._store.get(partition, id)
        return found if found is not None and window.age(found, now) <= WINDOW_MS else None

    def sent(self, partition: int, key: bytes) -> list[int]:
        """When something was sent that counts towards a cap, in ms, oldest first."""
        found = self._store.get(partition, key)
        return [] if found is None else [at for (at,) in _TIMES.iter_unpack(found)]

    def learn(self, pages: Mapping[int, Page], offsets: Mapping[int, int]) -> None:
        """Take in what is committed; `offsets`: where its pages stand in the window's partitions."""
        for partition, page in pages.items():
            self._take(partition, page, offsets[partition] + 1)
        self._sweep()

    def _sweep(self) -> None:
        """Twice a day all rows are looked at, a slice after each batch."""
        now = self._clock()
        if now >= self._sweep_at:
            at = ms(now)
            if self._store.sweep(lambda key, value: key != b"" and window.stale(value, at)):
                self._sweep_at = now + _SWEEP

    def _marker(self, partition: int) -> tuple[int, list[int]]:
        found = self._store.get(partition, b"")
        if found is None:
            return 0, [0] * len(SOURCES)
        marker, *next = _MARKER.unpack(found)
        return marker, next

    def _take(self, partition: int, page: Page, marker: int) -> None:
        next = window.merged(self._next[partition], page.next)
        rows = [*page.entries.items(), *self._sends(partition, page), (b"", _MARKER.pack(marker, *next))]
        self._store.write(partition, rows)
        self._next[partition] = next

    def _sends(self, partition: int, page: Page) -> Iterator[tuple[bytes, bytes]]:
        """Each counter with its new sends, without those that no cap can ask for any more."""
        for key, times in page.sends.items():
            all = sorted([*self.sent(partition, key), *times])
            yield key, b"".join(_TIMES.pack(at) for at in all if at > all[-1] - WINDOW_MS)


class Batch:
    """What is known while a batch is decided: the state, and what the batch has decided before.

    The batch's own decisions are kept apart, so that an abort leaves the state as it was.
    """

    def __init__(self, state: RouterState, now: int) -> None:
        self.pages: dict[int, Page] = {}
        self._state = state
        self._now = now

    def page(self, partition: int) -> Page:
        """What the batch adds to a partition number."""
        page = self.pages.get(partition)
        if page is None:
            page = self.pages[partition] = Page()
        return page

    def decided(self, partition: int, id: bytes) -> bytes | None:
        """The latest decision about the id within the window, packed."""
        return self.page(partition).entries.get(id) or self._state.decided(partition, id, self._now)

    def sent(self, partition: int, key: bytes) -> list[int]:
        """When something was sent that counts towards a cap, in ms, oldest first."""
        return sorted(self._state.sent(partition, key) + self.page(partition).sends.get(key, []))
