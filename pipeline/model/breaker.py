"""The circuit breaker of one provider and credential: a state machine, pure.

closed      every delivery goes; too many bad answers in the window open it
open        nothing goes until a wait is over: jittered, so that processes do not come back together, and
            twice as long after each failure, also when it had closed only for a moment
half_open   one delivery at a time goes as a probe; some good answers in a row close it, a bad one opens it

An operator's order stands above this: `open` lets nothing go, not even a probe; `close` lets all go and
counts from nothing once it is taken back. Times are seconds of a clock that only goes forward.
"""

from dataclasses import dataclass, replace
from typing import Literal

from pipeline.model.outcome import Result

State = Literal["closed", "half_open", "open"]
# What people see: the breaker's state, or `paused` while the channel is at fault.
Standing = State | Literal["paused"]
Order = Literal["open", "close"]

# What says that the provider is unwell. The rest says something of a message or an address.
BAD: frozenset[Result] = frozenset({"transient", "throttled", "uncertain"})
# Of these, what the provider has not taken: it may wait for better times without counting as an attempt.
REFUSED: frozenset[Result] = frozenset({"transient", "throttled"})


_FIRST_SHARE = 0.05  # of a provider that has just come back


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """When it opens and closes."""

    window: float = 30.0  # seconds that an answer counts
    least: int = 50  # answers in the window, below which nothing is concluded
    share: float = 0.5  # bad ones among them
    first_wait: float = 5.0  # seconds, half of it jitter
    longest_wait: float = 120.0  # seconds; who has stayed closed for so long begins with the first wait again
    probes: int = 3  # good answers in a row that close it
    ramp: float = 60.0  # seconds from closing until it has its whole share again, where another could take it


@dataclass(frozen=True, slots=True, kw_only=True)
class Breaker:
    """Where it stands."""

    limits: Limits = Limits()
    state: State = "closed"
    order: Order | None = None
    good: tuple[int, int] = (0, 0)  # answers in this half of the window, and in the one before
    bad: tuple[int, int] = (0, 0)
    half: float = 0.0  # when this half began
    trips: int = 0  # times that it opened, one soon after the other
    since: float = 0.0  # of this state
    until: float = 0.0  # while open: when the first probe may go
    passed: int = 0  # probes, one after the other

    @property
    def shut(self) -> bool:
        """Whether deliveries wait."""
        return self.order == "open" or (self.order is None and self.state != "closed")

    def counted(self, good: int, bad: int, now: float, chance: float) -> "Breaker":
        """After so many answers more. `chance` (0 to 1) is for the jitter; called once a batch."""
        if self.state != "closed" or self.order is not None:
            return self
        turned = self._turned(now)
        turned = replace(
            turned, good=(turned.good[0] + good, turned.good[1]), bad=(turned.bad[0] + bad, turned.bad[1])
        )
        unwell, all_of_them = sum(turned.bad), sum(turned.good) + sum(turned.bad)
        if bad and all_of_them >= self.limits.least and unwell >= self.limits.share * all_of_them:
            return _opened(turned, now, chance)
        return turned

    def probed(self, good: bool, now: float, chance: float) -> "Breaker":
        """After the answer to a probe."""
        if self.state == "closed" or self.order is not None:
            return self
        if not good:
            return _opened(self, now, chance)
        if self.passed + 1 >= self.limits.probes:
            return self._closed(now)
        since = self.since if self.state == "half_open" else now
        return replace(self, state="half_open", passed=self.passed + 1, since=since)

    def ordered(self, order: Order | None, now: float) -> "Breaker":
        """After an operator's word; None takes it back, and the next thing to come is a probe or a count."""
        if order == self.order:
            return self
        if self.order == "close":  # what was learned before is old by now
            return replace(self._closed(now), order=order)
        return replace(self, order=order)

    def _turned(self, now: float) -> "Breaker":
        """The window in two halves, the older of which is forgotten as a whole."""
        half = self.limits.window / 2
        if now < self.half + half:
            return self
        if now < self.half + 2 * half:
            return replace(self, good=(0, self.good[0]), bad=(0, self.bad[0]), half=self.half + half)
        return replace(self, good=(0, 0), bad=(0, 0), half=now)

    def _closed(self, now: float) -> "Breaker":
        return replace(
            self, state="closed", since=now, until=now, passed=0, good=(0, 0), bad=(0, 0), half=now
        )


def regained(seconds: float, limits: Limits) -> float:
    """The share (0 to 1) of a provider that has been well again for so long: what it cannot bear shows early."""
    return 1.0 if limits.ramp <= 0 else min(1.0, _FIRST_SHARE + (1 - _FIRST_SHARE) * seconds / limits.ramp)


def _opened(breaker: Breaker, now: float, chance: float) -> Breaker:
    limits = breaker.limits
    calm = breaker.state == "closed" and now - breaker.since >= limits.longest_wait
    trips = 1 if calm else breaker.trips + 1
    wait = min(limits.longest_wait, limits.first_wait * 2 ** min(trips - 1, 20))
    until = now + wait * (0.5 + chance / 2)
    return replace(breaker, state="open", trips=trips, since=now, until=until, passed=0)
