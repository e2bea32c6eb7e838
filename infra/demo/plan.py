"""The plan of the day: who is told what, when, through which door; and what should come of it.

Pure. What should come of it is worked out here by itself, not with the router's code, so that the
demo compares the product with something.
"""

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from infra.demo.flights import Trouble
from infra.demo.passengers import Passengers
from pipeline.model.event import Channel, Value
from pipeline.model.profile import Profile

Door = Literal["publish", "outbox"]
_TWICE = 20  # one event in twenty is published a second time


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One event to be accepted."""

    at: float  # part of the day, 0 to 1
    door: Door
    user_id: str
    event_id: str
    type: str
    data: Mapping[str, Value]
    repeat: bool = False  # the same event again


def plan(day: Sequence[Trouble], people: Passengers, seed: int, per_flight: int) -> list[Step]:
    """Everything that is published, in the order of the day."""
    chance = random.Random(seed)  # noqa: S311 - a plan, not a secret
    first, last = day[0].announced, day[-1].announced
    steps: list[Step] = []
    for number, trouble in enumerate(day):
        at = (trouble.announced - first) / max(1, last - first)
        for who in chance.sample(people.profiles, min(per_flight, len(people.profiles))):
            door: Door = "outbox" if len(steps) % 2 else "publish"
            step = _step(trouble, who, at, door, f"{trouble.flight.replace(' ', '')}-{number}-{who.user_id}")
            steps.append(step)
            if chance.randrange(_TWICE) == 0:
                other: Door = "publish" if chance.random() < 0.5 else "outbox"
                steps.append(replace(step, at=min(1.0, at + 0.01), door=other, repeat=True))
    return sorted(steps, key=lambda step: step.at)


def _step(trouble: Trouble, who: Profile, at: float, door: Door, event_id: str) -> Step:
    data: dict[str, Value] = {
        "flight": trouble.flight,
        "carrier": trouble.carrier,
        "origin": trouble.origin,
        "destination": trouble.dest,
        "scheduled": trouble.scheduled,
    }
    if trouble.kind == "delayed":
        data["delay_minutes"] = trouble.delay
    return Step(
        at=at, door=door, user_id=who.user_id, event_id=event_id, type=f"flight.{trouble.kind}", data=data
    )


def wanted(who: Profile, channels: Sequence[Channel], category: str) -> list[tuple[Channel, str]]:
    """Where a passenger should hear of an event: (channel, address), by their own word."""
    return [
        (address.channel, address.value)
        for address in who.addresses
        if address.channel in channels
        and who.enabled
        and who.preferences.get((category, address.channel), True)
    ]
