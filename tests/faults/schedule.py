"""Which faults a run injects, in which order: a decision of the seed, so that a run can be repeated.

Each kind that costs much time (a session that must end, a broker that must start) comes a fixed number
of times; what is left of the asked number goes to kills at the numbered steps and to rebalances.
"""

import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain, cycle
from typing import Literal, get_args

Kind = Literal[
    "kill",  # kill -9 at a step
    "kill all",  # kill -9 of both routers at once, wherever they are
    "replaced",  # stopped at a step, replaced by a process of the same instance, woken
    "zombie",  # stopped at a step past its session, its partitions taken over, woken
    "inherited",  # a zombie with an open transaction, and the machine that took over is lost
    "overrun",  # stalled at a step past max.poll.interval while its heartbeats go on
    "joins",  # a third router joins
    "leaves",  # it leaves
    "broker killed",  # kill -9, started again
    "broker stopped",  # SIGTERM, started again
    "postgres stopped",  # away for some seconds
    "offsets back",  # the group's offsets set back while the routers are down
    "offsets lost",  # the group deleted while the routers are down
    "disk lost",  # what a router keeps on its disk is gone when it starts again
    "disk back",  # what a router keeps on its disk is of an earlier time when it starts again
]
Step = Literal[
    "restored",  # the state is read back, the partitions are not taken yet
    "read",  # records are read
    "gathered",  # profiles and recalls are here
    "decided",  # before the transaction begins
    "begun",  # the transaction has begun, nothing is produced
    "produced",  # every record lies on the broker, uncommitted
    "offsets",  # the offsets are in the transaction
    "committing",  # the commit is asked for and not answered
    "committed",  # the commit is answered, memory has not learned of it
]
_AT_A_STEP = frozenset[Kind]({"kill", "replaced", "zombie", "overrun"})
STEPS: tuple[Step, ...] = get_args(Step)
ROUTERS = ("0", "1")
# What a stopped process holds on to: nothing yet, an open transaction, or one that only lacks its commit.
_HELD: tuple[Step, ...] = ("gathered", "produced", "offsets")
_COSTLY: Mapping[Kind, int] = {
    "broker killed": 3,
    "broker stopped": 2,
    "zombie": 3,
    "inherited": 1,
    "overrun": 2,
    "postgres stopped": 3,
    "offsets back": 1,
    "offsets lost": 1,
    "disk lost": 1,
    "disk back": 1,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """One fault, with all that chance had to say about it."""

    kind: Kind
    router: str = "0"  # the instance that it befalls
    step: Step = "decided"
    batch: int = 1  # it befalls the n-th time that the step is reached
    fraction: float = 0.0  # 0 to 1: how long or how far, within what the kind allows

    @property
    def name(self) -> str:
        """How the table calls it."""
        return f"{self.kind}: {self.step}" if self.kind in _AT_A_STEP else self.kind


def plan(faults: int, seed: int) -> tuple[Fault, ...]:
    """At least so many faults, in the seed's order; a router that joins leaves next."""
    chance = random.Random(seed)
    left = max(0, faults - sum(_COSTLY.values()))
    visits = (left * 2 // 5 + 1) // 2  # two of five are rebalances: a router joins, and leaves
    replaced, all_at_once = left // 10, left // 20
    kills = max(0, left - 2 * visits - replaced - all_at_once)
    times: Mapping[Kind, int] = {
        **_COSTLY,
        "joins": visits,
        "replaced": replaced,
        "kill all": all_at_once,
        "kill": kills,
    }
    kinds: list[Kind] = [kind for kind, count in times.items() for _ in range(count)]
    return _drawn(_shuffled(kinds, chance), chance)


def short(seed: int) -> tuple[Fault, ...]:
    """The run of every check: a kill on either side of the commit, a zombie, a rebalance, a broker, a database."""
    kinds: list[Kind] = ["kill", "kill", "kill", "replaced", "joins", "broker killed", "postgres stopped"]
    chance = random.Random(seed)
    return _drawn(_shuffled(kinds, chance), chance, steps=("produced", "committing", "committed"))


def _shuffled(kinds: Sequence[Kind], chance: random.Random) -> list[Kind]:
    return chance.sample(kinds, len(kinds))


def _drawn(kinds: Sequence[Kind], chance: random.Random, steps: Sequence[Step] = STEPS) -> tuple[Fault, ...]:
    """A fault of each kind; steps take turns, so that none is left out by chance."""
    stops = cycle(_HELD)
    taking_turns: Mapping[Kind, Iterator[Step]] = {
        "kill": cycle(steps),
        "zombie": cycle(_HELD),
        "overrun": cycle(_HELD[:2]),
    }

    def one(kind: Kind) -> Fault:
        step = "produced" if kind == "inherited" else next(taking_turns.get(kind, stops))
        return Fault(
            kind=kind,
            router=chance.choice(ROUTERS),
            step=step,
            batch=chance.randint(1, 5),
            fraction=round(chance.random(), 3),
        )

    return tuple(chain.from_iterable(_with_end(one(kind)) for kind in kinds))


def _with_end(fault: Fault) -> tuple[Fault, ...]:
    return (fault, Fault(kind="leaves")) if fault.kind == "joins" else (fault,)
