"""When a program that died is started again: a decision, without clock and chance of its own."""

from dataclasses import dataclass

BASE = 0.25  # seconds before the first restart: a killed router commits again within 3 s
CAP = 5.0  # seconds at most: a start costs half a second of CPU, and a returning broker is found soon
STABLE = 30.0  # seconds of running after which earlier deaths no longer count


@dataclass(frozen=True, slots=True, kw_only=True)
class Tries:
    """What the back-off remembers of a program."""

    deaths: int = 0  # in a row, each after less than STABLE seconds
    started_at: float = 0.0  # of the run that counts now, in seconds on the clock of `now`


def after_death(tries: Tries, now: float, chance: float) -> tuple[Tries, float]:
    """The wait before the next start in seconds, and what to remember of it.

    Twice as long each time up to CAP, of which `chance` (0 to 1) takes up to a half away, so that
    programs felled by one cause do not come back as one herd.
    """
    deaths = 0 if now - tries.started_at >= STABLE else tries.deaths
    longest = min(CAP, BASE * 2 ** min(deaths, 16))  # 16: past any cap, before any overflow
    delay = longest * (1 - chance / 2)
    return Tries(deaths=deaths + 1, started_at=now + delay), delay
