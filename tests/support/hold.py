"""Values for tests of holds, and timers in memory."""

from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from datetime import datetime, timedelta
from typing import Any

from pipeline.adapters.wire.codec import Wire
from pipeline.adapters.wire.ids import LockFile
from pipeline.model.errors import DependencyDown
from pipeline.model.event import user_key
from pipeline.model.hold import Hold, Timer
from pipeline.model.record import Incoming
from pipeline.model.topics import HOLDS
from tests.support.make import NOW, event

_WIRE = Wire(LockFile())
_EVENT = _WIRE.encode(event())
Place = tuple[str, int, int]


def hold(**changes: Any) -> Hold:
    """An event held for an hour, with changes."""
    values: dict[str, Any] = {
        "event_id": "e-1",
        "user_id": "u-1",
        "tenant": "acme",
        "reason": "due",
        "due_at": NOW + timedelta(hours=1),
        "expires_at": NOW + timedelta(days=1),
        "source_topic": "notification.events.normal",
        "source_partition": 0,
        "source_offset": 0,
        "held_at": NOW,
        "event": _EVENT,
    }
    return Hold(**{**values, **changes})


def stored(of: Hold, **changes: Any) -> Incoming:
    """The hold as it is read from its topic, with changes."""
    values: dict[str, Any] = {
        "topic": HOLDS,
        "partition": 0,
        "offset": 0,
        "key": user_key(of.tenant, of.user_id),
        "value": _WIRE.encode(of),
        "at": NOW,
    }
    return Incoming(**{**values, **changes})


class MemoryTimers:
    """The port `Timers`; `DependencyDown` while they are away."""

    def __init__(self) -> None:
        self.rows: dict[Place, Timer] = {}
        self.away = False

    def _ask(self) -> None:
        if self.away:
            raise DependencyDown("away for the test")

    async def store(self, timers: Sequence[Timer]) -> None:
        """Those that are there stay as they are."""
        self._ask()
        for timer in timers:
            self.rows.setdefault((timer.topic, timer.partition, timer.offset), timer)

    @asynccontextmanager
    async def due(self, now: datetime, limit: int) -> AsyncGenerator[Sequence[Timer]]:
        """Forgotten after the block."""
        self._ask()
        found = sorted((timer for timer in self.rows.values() if timer.wake_at <= now), key=_wake_at)[:limit]
        yield found
        self._ask()
        for timer in found:
            del self.rows[timer.topic, timer.partition, timer.offset]

    async def next(self) -> datetime | None:
        """The earliest."""
        self._ask()
        return min(map(_wake_at, self.rows.values()), default=None)


def _wake_at(timer: Timer) -> datetime:
    return timer.wake_at
