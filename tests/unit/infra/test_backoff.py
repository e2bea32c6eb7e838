"""The wait before a restart, as a decision."""

from hypothesis import given
from hypothesis import strategies as st

from infra.embedded.backoff import BASE, CAP, STABLE, Tries, after_death

deaths = st.integers(min_value=0, max_value=10_000)
times = st.floats(min_value=0, max_value=1e9)
chances = st.floats(min_value=0, max_value=1)


@given(deaths, times, chances)
def test_wait_is_bounded(count: int, now: float, chance: float) -> None:
    """A wait is at least half the base and at most the cap, however often a program died."""
    _, delay = after_death(Tries(deaths=count, started_at=now), now, chance)
    assert BASE / 2 <= delay <= CAP


@given(deaths, times, chances)
def test_wait_doubles_up_to_the_cap(count: int, now: float, chance: float) -> None:
    """The next death in a row waits twice as long, until the cap."""
    _, delay = after_death(Tries(deaths=count, started_at=now), now, chance)
    _, longer = after_death(Tries(deaths=count + 1, started_at=now), now, chance)
    assert longer == min(2 * delay, CAP * (1 - chance / 2))


@given(deaths, times, chances, st.floats(min_value=0, max_value=STABLE, exclude_max=True))
def test_deaths_in_a_row_are_counted(count: int, started: float, chance: float, ran: float) -> None:
    """A death before the stable period counts on, and the next run's clock starts after the wait."""
    before = Tries(deaths=count, started_at=started)
    now = started + ran
    after, delay = after_death(before, now, chance)
    if now - started < STABLE:  # adding floats may round it up to the limit
        assert after == Tries(deaths=count + 1, started_at=now + delay)


@given(deaths, st.floats(min_value=0, max_value=1e6), chances, st.floats(min_value=STABLE + 1, max_value=1e6))
def test_a_stable_run_forgets(count: int, started: float, chance: float, ran: float) -> None:
    """After a stable run the wait is the first one's again."""
    after, delay = after_death(Tries(deaths=count, started_at=started), started + ran, chance)
    assert after.deaths == 1
    assert delay == BASE * (1 - chance / 2)


def test_a_killed_router_is_back_soon() -> None:
    """The first restart comes within a quarter of a second."""
    _, delay = after_death(Tries(), 0.0, 0.0)
    assert delay == 0.25
