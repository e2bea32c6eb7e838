"""Publishes the day, sped up, through both doors."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar

import asyncpg

from infra.demo.passengers import TENANT
from infra.demo.plan import Step
from pipeline.adapters.postgres.pool import transaction
from pipeline.adapters.wire.codec import Wire
from pipeline.model.catalogue import Catalogue
from pipeline.model.errors import DependencyDown
from pipeline.model.event import Event
from pipeline.sdk import Client, new_event, outbox

_TICK = 0.1  # seconds between two groups of events
_AWAY = 1.0  # seconds between two tries while Kafka or Postgres is away
_TRIES = 60
T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class Doors:
    """Both ways in."""

    client: Client
    pool: asyncpg.Pool
    catalogue: Catalogue
    codec: Wire


@dataclass(frozen=True, slots=True, kw_only=True)
class Accepted:
    """What came of publishing."""

    events: int = 0  # every call that returned
    absorbed: int = 0  # of these: repeats that met their first still waiting in the outbox
    distinct: int = 0  # of these: events that were not there before

    def __add__(self, other: "Accepted") -> "Accepted":
        return Accepted(
            events=self.events + other.events,
            absorbed=self.absorbed + other.absorbed,
            distinct=self.distinct + other.distinct,
        )


async def publish(
    steps: Sequence[Step], doors: Doors, seconds: float, tell: Callable[[Accepted], None]
) -> Accepted:
    """Publish every step at its part of `seconds`. `tell` is called with what was accepted so far."""
    loop = asyncio.get_running_loop()
    began, accepted, events = loop.time(), Accepted(), dict[str, Event]()
    queue = list(steps)
    while queue:
        part = (loop.time() - began) / seconds
        due = [step for step in queue if step.at <= part]
        queue = queue[len(due) :]
        known = len(events)
        made = [(step, _event(step, doors.catalogue, events)) for step in due]
        direct = [event for step, event in made if step.door == "publish"]
        queued = [event for step, event in made if step.door == "outbox"]
        _, absorbed = await asyncio.gather(
            _persist(lambda direct=direct: doors.client.publish_many(direct)),
            _persist(lambda queued=queued: _enqueue(queued, doors)),
        )
        accepted += Accepted(events=len(due), absorbed=absorbed, distinct=len(events) - known)
        tell(accepted)
        await asyncio.sleep(_TICK)
    return accepted


async def _persist(call: Callable[[], Awaitable[T]]) -> T:
    """Call again while Kafka or Postgres is away, as a service would: the ids make it harmless."""
    for _ in range(_TRIES):
        try:
            return await call()
        except DependencyDown:
            await asyncio.sleep(_AWAY)
    return await call()


def _event(step: Step, catalogue: Catalogue, made: dict[str, Event]) -> Event:
    """The event of a step; a repeat is the very same event."""
    if step.event_id not in made:
        made[step.event_id] = new_event(
            step.type,
            tenant=TENANT,
            user_id=step.user_id,
            event_id=step.event_id,
            data=step.data,
            priority=catalogue[step.type].lane,
        )
    return made[step.event_id]


async def _enqueue(events: Sequence[Event], doors: Doors) -> int:
    """Give events to the outbox in one transaction; gives how many were absorbed there."""
    if not events:
        return 0
    async with transaction(doors.pool) as connection:
        queued = [
            await outbox.enqueue(connection, event, catalogue=doors.catalogue, encoder=doors.codec)
            for event in events
        ]
    return sum(one.duplicate for one in queued)
