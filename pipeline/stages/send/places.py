"""Places at a connector: as many requests at once as it works on, as fast as it may be asked, urgent ones first.

Records are read ahead of the connector, so that reading and writing go in batches; where they wait for a
place a one-time code must not stand behind a broadcast, and a broadcast to a provider that hangs must not
take every place. Where a rate is set a request takes a token, too (`model/rate.py`); so few records are read
ahead of the tokens (`spare`) that the topic is where the rest waits.
"""

import asyncio
import contextlib
import time
from collections import deque
from collections.abc import Mapping

from pipeline.model.event import LANES, Lane
from pipeline.model.rate import Bucket

_SOON = 0.001  # seconds: the least that a timer waits


class Places:
    """A tenth of the places is kept for urgent deliveries, half of them for urgent and normal ones."""

    def __init__(self, count: int, bucket: Bucket | None = None) -> None:
        self._free = count
        self._bucket = bucket
        self._kept: Mapping[Lane, int] = {"urgent": 0, "normal": count // 10, "bulk": count // 2}
        self._lines: Mapping[Lane, deque[asyncio.Future[None]]] = {lane: deque() for lane in LANES}
        self._timer: asyncio.TimerHandle | None = None
        self._due = 0.0  # when it goes off

    async def take(self, lane: Lane) -> None:
        """Wait for a place and a token. Whoever has them gives the place back with `leave`."""
        if self._free > self._kept[lane] and not self._lines[lane] and self._token(lane):
            self._free -= 1
            return
        place: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._lines[lane].append(place)
        self._arm()
        try:
            await place
        except asyncio.CancelledError:
            if place.cancelled():
                with contextlib.suppress(ValueError):  # passed over already
                    self._lines[lane].remove(place)
            else:
                self.leave()  # its turn had come: pass it on
            raise

    def leave(self) -> None:
        """Give a place back; the first in line of the most urgent lane that may have it gets it."""
        self._free += 1
        self._serve()

    def spare(self, lane: Lane) -> int | None:
        """How many records of this lane may be read for the tokens to come; None: no rate is set."""
        if self._bucket is None:
            return None
        before = LANES[: LANES.index(lane) + 1]
        return max(0, self._bucket.ahead - sum(len(self._lines[one]) for one in before))

    def _serve(self) -> None:
        """Let go whoever may, the most urgent first."""
        for lane in LANES:
            line = self._lines[lane]
            while line and self._free > self._kept[lane]:
                if line[0].done():
                    line.popleft()
                elif self._token(lane):
                    self._free -= 1
                    line.popleft().set_result(None)
                else:
                    break
        self._arm()

    def _token(self, lane: Lane) -> bool:
        return self._bucket is None or self._bucket.take(lane, time.monotonic())

    def _arm(self) -> None:
        """Look again when the next token is there that somebody with a place waits for."""
        if self._bucket is None:
            return
        now = time.monotonic()
        waits = [
            self._bucket.wait(lane, now)
            for lane in LANES
            if self._lines[lane] and self._free > self._kept[lane]
        ]
        due = now + max(_SOON, min(waits, default=0.0))
        if waits and (self._timer is None or due < self._due):
            if self._timer is not None:
                self._timer.cancel()
            self._due, self._timer = due, asyncio.get_running_loop().call_later(due - now, self._fire)

    def _fire(self) -> None:
        self._timer = None
        self._serve()
