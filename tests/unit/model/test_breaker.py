"""The circuit breaker: when it opens, when it lets a probe go, when it closes, and who is above it."""

from collections import deque

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from pipeline.model.breaker import Breaker, Limits, Order

LIMITS = Limits(window=30.0, least=20, share=0.5, first_wait=4.0, longest_wait=60.0, probes=3)


def opened(now: float = 0.0, chance: float = 0.5) -> Breaker:
    """One that has just opened."""
    return Breaker(limits=LIMITS, since=-1e9).counted(0, 20, now, chance)


def test_it_opens_at_the_share_and_not_below_the_least_volume() -> None:
    """Half of twenty opens it; nineteen bad ones alone conclude nothing."""
    fresh = Breaker(limits=LIMITS)
    assert fresh.counted(0, 19, 1.0, 0.5).state == "closed"
    assert fresh.counted(11, 9, 1.0, 0.5).state == "closed"
    assert fresh.counted(10, 10, 1.0, 0.5).state == "open"
    assert fresh.counted(0, 19, 1.0, 0.5).counted(0, 1, 2.0, 0.5).state == "open"


def test_what_is_older_than_the_window_counts_no_more() -> None:
    """Ten bad answers now and ten a window earlier are not twenty."""
    assert Breaker(limits=LIMITS).counted(0, 10, 0.0, 0.5).counted(0, 10, 30.0, 0.5).state == "closed"


def test_a_breaker_that_flaps_waits_longer_each_time() -> None:
    """Closing for a moment does not bring the first wait back; staying closed for long does."""
    breaker, now, waits = opened(chance=1.0), 0.0, list[float]()
    for _ in range(6):
        waits.append(breaker.until - now)
        now = breaker.until
        for _ in range(LIMITS.probes):
            breaker = breaker.probed(True, now, 1.0)
        assert breaker.state == "closed"
        now += 1.0
        breaker = breaker.counted(0, 20, now, 1.0)
    assert waits == [4.0, 8.0, 16.0, 32.0, 60.0, 60.0]
    for _ in range(LIMITS.probes):
        breaker = breaker.probed(True, breaker.until, 1.0)
    later = breaker.since + LIMITS.longest_wait
    assert breaker.counted(0, 20, later, 1.0).until == later + 4.0


def test_an_order_stands_above_it_and_is_taken_back() -> None:
    """Ordered open it stays shut whatever comes; ordered closed it never opens; then it begins anew."""
    held = Breaker(limits=LIMITS).ordered("open", 1.0)
    assert held.shut
    assert held.probed(True, 2.0, 0.5).shut
    assert not held.ordered(None, 3.0).shut
    through = opened().ordered("close", 1.0)
    assert not through.shut
    assert not through.counted(0, 1000, 2.0, 0.5).shut
    free = through.ordered(None, 3.0)
    assert (free.state, free.counted(0, 19, 4.0, 0.5).state) == ("closed", "closed")


class Machine(RuleBasedStateMachine):
    """Any order of answers, probes, waits and operators, against a list of all answers."""

    def __init__(self) -> None:
        super().__init__()
        self.breaker = Breaker(limits=LIMITS, since=-1e9)
        self.now = 0.0
        self.answers: deque[tuple[float, bool]] = deque()  # since it was last closed
        self.row = 0  # good probes, one after the other

    @rule(seconds=st.floats(0, 100))
    def wait(self, seconds: float) -> None:
        """Time passes; by itself it changes nothing."""
        self.now += seconds

    @rule(good=st.integers(0, 30), bad=st.integers(0, 30), chance=st.floats(0, 1))
    def count(self, good: int, bad: int, chance: float) -> None:
        """A batch of answers: it opens only on enough bad ones of the last window."""
        before = self.breaker
        self.breaker = before.counted(good, bad, self.now, chance)
        if before.shut or before.order is not None:
            assert self.breaker == before
            return
        self.answers += [(self.now, True)] * good + [(self.now, False)] * bad
        recent = [was_good for at, was_good in self.answers if at > self.now - LIMITS.window]
        if self.breaker.state == "open":
            assert len(recent) >= LIMITS.least
            assert recent.count(False) > 0
            wait = self.breaker.until - self.now
            assert 0.499 * LIMITS.first_wait <= wait <= LIMITS.longest_wait
            self.row = 0
        fresh = [was_good for at, was_good in self.answers if at > self.now - LIMITS.window / 2]
        if bad and len(fresh) == len(recent) >= LIMITS.least and recent.count(False) * 2 >= len(recent):
            assert self.breaker.state == "open"  # what came in half a window is never forgotten

    @precondition(lambda self: self.breaker.shut and self.breaker.order is None)
    @rule(good=st.booleans(), chance=st.floats(0, 1))
    def probe(self, good: bool, chance: float) -> None:
        """A probe goes when its time has come: three good ones in a row close it, a bad one opens it."""
        self.now = max(self.now, self.breaker.until)
        self.breaker = self.breaker.probed(good, self.now, chance)
        self.row = self.row + 1 if good else 0
        assert self.breaker.shut == (self.row < LIMITS.probes)
        if not self.breaker.shut:
            self._anew()
        elif not good:
            assert self.breaker.until > self.now

    @rule(order=st.sampled_from(["open", "close", None]))
    def operator(self, order: Order | None) -> None:
        """Somebody gives an order or takes it back."""
        if self.breaker.order == "close" and order != "close":
            self._anew()
        self.breaker = self.breaker.ordered(order, self.now)

    @invariant()
    def orders_hold(self) -> None:
        """Open is shut, close is not, whatever was learned."""
        if self.breaker.order is not None:
            assert self.breaker.shut == (self.breaker.order == "open")

    def _anew(self) -> None:
        self.answers.clear()
        self.row = 0


TestMachine = Machine.TestCase
