"""Which fault happens when, in a run of the whole pipeline: a decision of the seed."""

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, get_args

from pipeline.model.event import CHANNELS

Kind = Literal[
    "broker killed",  # kill -9 of one of three, which starts again
    "route killed",
    "sender killed",
    "relay killed",
    "retry killed",
    "hold killed",
    "account killed",
    "postgres killed",  # kill -9 or a hasty stop, and started again
    "stopped",  # SIGSTOP of any process, some seconds, SIGCONT
    "provider down",  # says 503 to everybody
    "provider slow",
    "provider lying",  # takes a message, and says that it has not, or says nothing
    "provider rate-limiting",  # 429 with Retry-After
    "providers killed",  # the process of all of them
    "rebalance",  # a second process of every stage joins its group, and leaves
    "poison",  # bytes that nobody can read, in events and in deliveries
    "clock jump",  # a process's time of day, forward or back, and right again
    "registry outage",  # it does not answer, and a stage has to start
]
KINDS: tuple[Kind, ...] = get_args(Kind)
# Of each round; the others come once.
_OFTEN: Mapping[Kind, int] = {"broker killed": 3, "route killed": 2, "sender killed": 4, "stopped": 3}
_STAGES = ("route", "relay", "retry", "hold", "account", *(f"send-{channel}" for channel in CHANNELS))
BROKERS = ("kafka-1", "kafka-2", "kafka-3")
PROVIDERS = ("apns", "fcm", "webpush", "vonage", "smtp")
_LEAD = 3.0  # seconds of work before the first fault
_EVERY = 7.0  # seconds from one fault to the next, on average
_SHORT: tuple[Kind, ...] = (
    "broker killed",
    "route killed",
    "sender killed",
    "relay killed",
    "postgres killed",
    "provider lying",
    "poison",
)


_TARGETS: Mapping[Kind, tuple[str, ...]] = {
    "broker killed": BROKERS,
    "sender killed": tuple(f"send-{channel}" for channel in CHANNELS),
    "stopped": (*_STAGES, *BROKERS, "postgres", "providers"),
    "provider down": PROVIDERS,
    "provider slow": PROVIDERS,
    "provider lying": PROVIDERS,
    "provider rate-limiting": PROVIDERS,
    "clock jump": _STAGES,
    "registry outage": _STAGES,
    "poison": ("",),
    "rebalance": ("",),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """One fault, with all that chance had to say about it."""

    at: float  # seconds after the beginning
    kind: Kind
    target: str  # a program, a provider, or empty
    fraction: float  # 0 to 1: how long or how far, within what the kind allows


def plan(seconds: float, seed: int) -> tuple[Fault, ...]:
    """Faults for a run of so many seconds: every kind before any comes again in a new order."""
    chance = random.Random(seed)
    count = max(1, int((seconds - _LEAD) / _EVERY))
    kinds: list[Kind] = list(chance.sample(KINDS, len(KINDS)))
    while len(kinds) < count:
        more: list[Kind] = [kind for kind in KINDS for _ in range(_OFTEN.get(kind, 1))]
        kinds += chance.sample(more, len(more))
    return _timed(kinds[:count], chance, _EVERY)


def short(seed: int) -> tuple[Fault, ...]:
    """The run of every check: what costs no more than a moment."""
    chance = random.Random(seed)
    return _timed(chance.sample(_SHORT, len(_SHORT)), chance, 1.0)


def _timed(kinds: Sequence[Kind], chance: random.Random, every: float) -> tuple[Fault, ...]:
    turns = {kind: chance.randrange(100) for kind in KINDS}
    faults: list[Fault] = []
    for number, kind in enumerate(kinds):
        turns[kind] += 1  # targets take turns, so that none is left out by chance
        choices = targets(kind)
        faults.append(
            Fault(
                at=_LEAD + every * (number + chance.uniform(0, 0.5)),
                kind=kind,
                target=choices[turns[kind] % len(choices)],
                fraction=round(chance.random(), 3),
            )
        )
    return tuple(faults)


def targets(kind: Kind) -> tuple[str, ...]:
    """Whom a fault of this kind may befall; the process that its name says, when nothing else is known."""
    return _TARGETS.get(kind) or (kind.removesuffix(" killed"),)
