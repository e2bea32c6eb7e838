"""The bucket of tokens: never faster than the rate, and urgent deliveries find their reserve."""

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from pipeline.model.event import LANES, Lane
from pipeline.model.rate import Bucket

RATES = st.floats(0.01, 5_000)
STEPS = st.lists(st.tuples(st.floats(0, 5), st.sampled_from(LANES), st.integers(1, 20)), max_size=60)


@given(RATES, STEPS)
def test_never_more_than_the_rate_and_one_burst(rate: float, steps: list[tuple[float, Lane, int]]) -> None:
    """In no window, from any request to any later one, are there more than `rate * t + depth`."""
    bucket, now, given_at = Bucket(rate, 0.0), 0.0, list[float]()
    for passed, lane, wanted in steps:
        now += passed
        given_at += [now for _ in range(wanted) if bucket.take(lane, now)]
    for first, begin in enumerate(given_at):
        for last in range(first, len(given_at)):
            assert last - first + 1 <= rate * (given_at[last] - begin) + bucket.depth + 1e-6
    assert len(given_at) <= rate * now + 1e-6  # it begins empty


@given(RATES, STEPS)
def test_urgent_never_waits_for_bulk(rate: float, steps: list[tuple[float, Lane, int]]) -> None:
    """Whatever a greedy broadcast takes, urgent ones get what a bucket of their own would give them."""
    shared, now = Bucket(rate, 0.0), 0.0
    own, own_at = 0.0, 0.0  # a bucket of the same rate, as deep as the reserve
    for passed, lane, wanted in steps:
        now += passed
        for _ in range(wanted):
            if lane != "urgent":
                shared.take(lane, now)
                continue
            own, own_at = min(shared.reserve, own + (now - own_at) * rate), now
            alone = own >= 1 + 1e-9 * max(1.0, rate)
            given_one = shared.take("urgent", now)
            assert given_one or not alone
            own -= given_one  # what the shared one could give early is spent


@given(RATES, st.sampled_from(LANES), st.integers(0, 30))
def test_a_wait_is_as_long_as_it_says(rate: float, lane: Lane, before: int) -> None:
    """Right before the end of the wait there is no token, right after it there is one."""
    bucket = Bucket(rate, 0.0)
    now = before / rate
    while bucket.take(lane, now):
        pass
    wait = bucket.wait(lane, now)
    assert not bucket.take(lane, now + wait - 0.01 / rate)
    assert bucket.take(lane, now + wait + 0.01 / rate)


@given(st.lists(st.tuples(st.floats(0, 3), st.floats(0.1, 1.0)), min_size=1, max_size=30))
def test_shares_of_several_processes_make_one_rate(steps: list[tuple[float, float]]) -> None:
    """Two that divide a rate anew at every step never exceed the rate and the bursts of both."""
    rate, now, count = 50.0, 0.0, 0
    both, deepest = (Bucket(rate, 0.0), Bucket(rate, 0.0)), 0.0
    for passed, share in steps:
        shares = (share, 1 - share) if share < 1 else (1.0, 0.0001)
        for bucket, part in zip(both, shares, strict=True):
            bucket.change(rate * part, now)
        now += passed
        deepest = max(deepest, sum(bucket.depth for bucket in both))
        for bucket in both:
            while bucket.take("urgent", now):
                count += 1
    assert count <= rate * 1.0001 * now + deepest + 1e-6


def test_it_goes_slower_when_the_provider_asks_and_slowly_back() -> None:
    """Half as fast, once a second at most and never below a tenth; a minute later as fast as before."""
    bucket, counts = Bucket(100.0, 0.0), list[int]()
    for now in range(10, 18):
        while bucket.take("urgent", now):
            pass
        for _ in range(50):
            bucket.slow(now)
        counts.append(sum(bucket.take("urgent", now + step / 1000) for step in range(1000)))
    assert 49 <= counts[0] <= 52
    assert all(later <= max(13, earlier * 0.6) for earlier, later in pairwise(counts))
    assert 9 <= counts[-1] <= 13
    while bucket.take("urgent", 80):
        pass
    assert sum(bucket.take("urgent", 80 + step / 1000) for step in range(1001)) >= 99
