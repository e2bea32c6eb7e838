"""Which faults a run of the senders injects, in which order: a decision of the seed, so that it can be repeated."""

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import cycle
from typing import Literal, get_args

from pipeline.model.event import Channel

CHANNELS: Mapping[Channel, str] = {"apns": "apns", "sms": "vonage"}  # with the provider of each
INSTANCES = ("0", "1")
Kind = Literal[
    "kill",  # kill -9 at a step
    "told to stop",  # SIGTERM, and a successor
    "asleep",  # stopped past its session, its partitions taken over, woken
    "joins",  # a third sender joins
    "leaves",  # it leaves, and its partitions go to the others when its session ends
    "broker killed",  # kill -9, started again
    "broker stopped",  # SIGTERM, started again
    "hangs up",  # the provider takes the message, then closes without an answer
    "never answers",  # the provider takes the message and says nothing
    "refuses",  # the provider answers 503
    "throttles",  # the provider answers 429, in its own words
]
Step = Literal[
    "anywhere",  # at a moment that chance names
    "read",  # records are read
    "answered",  # the provider has answered, nothing is written
    "written",  # outcomes are durable, the offsets are not committed
    "committed",  # they are
]
STEPS: tuple[Step, ...] = get_args(Step)[1:]
PROVIDER: frozenset[Kind] = frozenset({"hangs up", "never answers", "refuses", "throttles"})
_COSTLY: Mapping[Kind, int] = {"asleep": 2, "leaves": 2, "joins": 2, "broker killed": 2, "broker stopped": 1}


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """One fault, with all that chance had to say about it."""

    kind: Kind
    channel: Channel = "apns"
    instance: str = "0"  # the sender that it befalls
    step: Step = "anywhere"
    batch: int = 1  # it befalls the n-th time that the step is reached
    fraction: float = 0.0  # 0 to 1: how long or how late, within what the kind allows

    @property
    def name(self) -> str:
        """How the table calls it."""
        return f"{self.kind}: {self.step}" if self.kind == "kill" else self.kind


def plan(faults: int, seed: int) -> tuple[Fault, ...]:
    """At least so many faults, in the seed's order; a sender that joins leaves next."""
    chance = random.Random(seed)
    left = max(0, faults - sum(_COSTLY.values()))
    each = left // 8  # of what a provider does, and of the stops; the rest are kills
    kinds: list[Kind] = [kind for kind, count in _COSTLY.items() if kind != "leaves" for _ in range(count)]
    often: list[Kind] = [*sorted(PROVIDER), "told to stop"] * each
    kills: list[Kind] = ["kill"] * (left - len(often))
    kinds += often + kills
    found: list[Fault] = []
    steps = cycle(get_args(Step))
    for fault in _drawn(chance.sample(kinds, len(kinds)), chance, steps=[next(steps) for _ in kinds]):
        found.append(fault)
        if fault.kind == "joins":
            found.append(Fault(kind="leaves", channel=fault.channel))
    return tuple(found)


def short(seed: int) -> tuple[Fault, ...]:
    """The run of every check: kills, a stop, a rebalance, and a provider that takes without an answer."""
    chance = random.Random(seed)
    kinds: list[Kind] = ["kill", "hangs up", "kill", "told to stop", "refuses", "joins"]
    steps: list[Step] = ["anywhere", "anywhere", "written", "written", "written", "written"]
    return _drawn(kinds, chance, steps=steps, channels=("apns",))


def _drawn(
    kinds: Sequence[Kind],
    chance: random.Random,
    *,
    steps: Sequence[Step],
    channels: Sequence[Channel] = tuple(CHANNELS),
) -> tuple[Fault, ...]:
    return tuple(
        Fault(
            kind=kind,
            channel=chance.choice(channels),
            instance=chance.choice(INSTANCES),
            step=step,
            batch=chance.randint(1, 20),
            fraction=round(chance.random(), 3),
        )
        for kind, step in zip(kinds, steps, strict=True)
    )
