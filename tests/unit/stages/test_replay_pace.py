"""How fast a run may go, and when it stops by itself."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.model.replay import Answers, Pace
from pipeline.stages.replay.pace import BATCH, Pacer, batch, canary, due, failing

_rates = st.floats(1, 50_000)
_ramps = st.sampled_from([0.0, 1.0, 30.0])


def played(pace: Pace, letters: int, seconds_a_batch: float = 0.0) -> tuple[float, list[float]]:
    """A run on a clock of its own: how long it takes, and when each batch went."""
    now, out, times = 0.0, 0, list[float]()
    pacer = Pacer(pace, now)
    while out < letters:
        while (rest := pacer.wait(now)) > 0:
            now += max(rest, 1e-6)
        times.append(now)
        now += seconds_a_batch
        pacer.sent(batch(pace))
        out += batch(pace)
    return now, times


@given(rate=_rates, ramp=_ramps, times=st.lists(st.floats(0, 1_000), min_size=2, max_size=5))
def test_what_is_due_only_grows_and_never_faster_than_the_rate(
    rate: float, ramp: float, times: list[float]
) -> None:
    """Between any two moments, with any ramp."""
    pace = Pace(rate=rate, ramp=ramp)
    first, *_, last = sorted(times)
    gained = due(pace, last) - due(pace, first)
    assert 0 <= gained <= rate * (last - first) * (1 + 1e-9) + 1e-6


@given(rate=_rates, seconds=st.integers(20, 60))
def test_the_rate_is_kept_within_two_percent(rate: float, seconds: int) -> None:
    """Over any run of twenty seconds and more."""
    letters = max(20, round(rate * seconds))
    took, _ = played(Pace(rate=rate), letters)
    assert (
        letters / rate * 0.98 - 1 / rate <= took + batch(Pace(rate=rate)) / rate <= letters / rate * 1.02 + 1
    )


def test_a_ramp_begins_with_a_tenth() -> None:
    """A tenth of the rate in the first moment, the whole at its end, 55 % on the way."""
    pace = Pace(rate=1_000, ramp=10)
    assert due(pace, 0.01) == pytest.approx(1.0, rel=0.1)
    assert due(pace, 10) == pytest.approx(5_500)
    assert due(pace, 11) - due(pace, 10) == pytest.approx(1_000)


def test_who_was_held_up_does_not_catch_up() -> None:
    """After a pause of ten seconds the provider sees the rate, not a burst."""
    pacer = Pacer(Pace(rate=100), 0.0)
    pacer.sent(10)
    assert pacer.wait(10.0) == 0
    pacer.sent(100)
    assert pacer.wait(10.0) == pytest.approx(1.0)


def test_without_a_rate_nothing_waits() -> None:
    """As fast as it can, in the largest batches."""
    pacer = Pacer(Pace(), 0.0)
    pacer.sent(10**9)
    assert (pacer.wait(0.0), batch(Pace())) == (0.0, BATCH)


@pytest.mark.parametrize(
    ("answered", "failed", "waited", "word"),
    [
        (9, 0, 1.0, "wait"),  # one is missing, and there is time
        (10, 0, 1.0, "go"),
        (10, 1, 1.0, "stop"),  # 10 %, above the 5 % that hold when nothing is said
        (9, 0, 60.0, "stop"),  # one was never answered
        (0, 0, 60.0, "stop"),
    ],
)
def test_the_rest_follows_a_canary_that_all_answered_well(
    answered: int, failed: int, waited: float, word: str
) -> None:
    """Too many failures stop the run, and so does silence."""
    assert canary(Pace(canary=10), Answers(sent=10, answered=answered, failed=failed), waited)[0] == word


@given(answered=st.integers(0, 2_000), failed=st.integers(0, 2_000), limit=st.floats(0, 99))
def test_a_run_stops_above_its_share_of_failures_and_only_then(
    answered: int, failed: int, limit: float
) -> None:
    """Of twenty answers and more; fewer are no share."""
    failed = min(failed, answered)
    word, why = failing(Pace(stop_at=limit), Answers(sent=2_000, answered=answered, failed=failed))
    assert (word == "stop") == (answered >= 20 and 100 * failed / answered > limit)
    assert bool(why) == (word == "stop")
    assert failing(Pace(), Answers(sent=1, answered=answered, failed=answered)) == ("go", "")
