"""Publishes the day, sped up, through both doors."""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import asyncpg

from infra.demo.passengers import TENANT
from infra.demo.plan import Step
from pipeline.adapters.postgres.pool import transaction
from pipeline.adapters.wire.codec import Wire
from pipeline.model.catalogue import Catalogue
from pipeline.model.event import Event
from pipeline.sdk import Client, new_event, outbox

_TICK = 0.1  # seconds between two groups of events


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

    def __add__(self, other: "Accepted") -> "Accepted":
        return Accepted(events=self.events + other.events, absorbed=self.absorbed + other.absorbed)


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
        made = [(step, _event(step, doors.catalogue, events)) for step in due]
        _, absorbed = await asyncio.gather(
            doors.client.publish_many([event for step, event in made if step.door == "publish"]),
            _enqueue([event for step, event in made if step.door == "outbox"], doors),
        )
        accepted += Accepted(events=len(due), absorbed=absorbed)
        tell(accepted)
        await asyncio.sleep(_TICK)
    return accepted


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
