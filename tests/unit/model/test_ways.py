"""Which provider takes a delivery: stable, by weight, and back by share."""

from collections import Counter
from uuid import UUID

from hypothesis import given
from hypothesis import strategies as st

from pipeline.model.breaker import Limits, regained
from pipeline.model.ways import choose, point

SHARES = st.floats(0, 1)
POINTS = st.integers(0, 2**32 - 1)
ORDERS = st.integers(1, 4).flatmap(
    lambda count: st.tuples(
        st.lists(st.floats(0, 100), min_size=count, max_size=count),
        st.lists(SHARES, min_size=count, max_size=count),
    )
)
MANY = [point(str(UUID(int=n * 0x9E3779B97F4A7C15F39CC0605CEDC835 % 2**128))) for n in range(4_000)]


@given(ORDERS, POINTS)
def test_who_has_no_share_gets_nothing_and_nobody_waits_while_one_has(
    order: tuple[list[float], list[float]], at: int
) -> None:
    """A provider that is unwell is never chosen; one is chosen whenever one may be."""
    weights, shares = order
    found = choose(weights, shares, at)
    assert (found is None) == (not any(shares))
    assert found is None or shares[found] > 0
    assert found == choose(weights, shares, at)


@given(ORDERS, POINTS, st.integers(0, 3), SHARES)
def test_a_share_that_grows_moves_deliveries_to_that_provider_alone(
    order: tuple[list[float], list[float]], at: int, place: int, grown: float
) -> None:
    """While others are well, nobody is moved between two providers whose shares stay as they are."""
    weights, shares = order
    place %= len(weights)
    shares = [1.0 if n != place else share for n, share in enumerate(shares)]
    more = [max(share, grown) if n == place else share for n, share in enumerate(shares)]
    before, after = choose(weights, shares, at), choose(weights, more, at)
    assert after in (before, place)


@given(st.lists(st.floats(0, 100), min_size=2, max_size=4), POINTS)
def test_a_stand_by_gets_nothing_while_all_are_well(others: list[float], at: int) -> None:
    """Weight 0 is a stand-by."""
    weights = [0.0, 1.0, *others]
    assert choose(weights, [1.0] * len(weights), at) != 0


def test_weights_are_parts_and_a_share_is_a_part_of_these() -> None:
    """Of 90 and 10, a tenth goes by the second; with half a share of the first, the second has the rest."""
    well = Counter(choose([90, 10], [1.0, 1.0], at) for at in MANY)
    assert 0.08 < well[1] / len(MANY) < 0.12
    half = Counter(choose([90, 10], [0.5, 1.0], at) for at in MANY)
    assert 0.41 < half[0] / len(MANY) < 0.49
    assert {choose([1, 0, 0], [0.0, 1.0, 1.0], at) for at in MANY} == {1}
    assert {choose([1, 0], [0.05, 0.0], at) for at in MANY} == {0}


@given(st.floats(0, 1e6), st.floats(0, 1e6))
def test_a_share_grows_to_the_whole(early: float, more: float) -> None:
    """It begins small, never shrinks, and is whole when the ramp is over."""
    limits = Limits(ramp=60.0)
    assert 0 < regained(0, limits) <= 0.05
    assert regained(early, limits) <= regained(early + more, limits) <= 1
    assert regained(60.0 + more, limits) == 1
