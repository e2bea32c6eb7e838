"""Places at a connector: as many requests at once as it works on, urgent ones first.

Records are read ahead of the connector, so that reading and writing go in batches; where they wait for a
place a one-time code must not stand behind a broadcast, and a broadcast to a provider that hangs must not
take every place.
"""

import asyncio
from collections import deque
from collections.abc import Mapping

from pipeline.model.event import LANES, Lane


class Places:
    """A tenth of the places is kept for urgent deliveries, half of them for urgent and normal ones."""

    def __init__(self, count: int) -> None:
        self._free = count
        self._kept: Mapping[Lane, int] = {"urgent": 0, "normal": count // 10, "bulk": count // 2}
        self._lines: Mapping[Lane, deque[asyncio.Future[None]]] = {lane: deque() for lane in LANES}

    async def take(self, lane: Lane) -> None:
        """Wait for a place. Whoever has one gives it back with `leave`."""
        if self._free > self._kept[lane]:  # then nobody of this lane waits
            self._free -= 1
            return
        place: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._lines[lane].append(place)
        try:
            await place
        except asyncio.CancelledError:
            if place.cancelled():
                self._lines[lane].remove(place)
            else:
                self.leave()  # its turn had come: pass it on
            raise

    def leave(self) -> None:
        """Give a place back; the first in line of the most urgent lane that may have it gets it."""
        self._free += 1
        for lane in LANES:
            line = self._lines[lane]
            while line and self._free > self._kept[lane]:
                place = line.popleft()
                if not place.done():
                    self._free -= 1
                    place.set_result(None)
                    return
