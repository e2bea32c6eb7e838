"""The retry ladder."""

from datetime import UTC, datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

from pipeline.model.ladder import TIERS, Climb, GiveUp, climb, scaled

NOW = datetime(2026, 3, 8, 12, 0, tzinfo=UTC)
waits = st.none() | st.timedeltas(timedelta(0), timedelta(days=2))


def test_each_attempt_climbs_one_rung() -> None:
    """Without a word from the provider the attempts take the tiers in order, and the sixth is the last."""
    steps = [climb(attempt, NOW) for attempt in range(1, 7)]
    assert steps[:5] == [Climb(tier=tier, not_before=NOW + tier.delay) for tier in TIERS]
    assert steps[5] == GiveUp(reason="exhausted")


def test_retry_after_chooses_the_tier() -> None:
    """A wait is rounded up to a tier, and one longer than all is walked in rounds of the last."""
    table = [
        (1, timedelta(seconds=3), "10s", timedelta(seconds=10)),  # shorter than the rung: the rung
        (1, timedelta(seconds=30), "1m", timedelta(minutes=1)),  # between two: the longer
        (1, timedelta(minutes=10), "10m", timedelta(minutes=10)),  # exactly one
        (4, timedelta(seconds=30), "1h", timedelta(hours=1)),  # never below the rung
        (1, timedelta(hours=9), "6h", timedelta(hours=9)),  # longer than the last
    ]
    for attempt, wait, tier, after in table:
        step = climb(attempt, NOW, wait=wait)
        assert isinstance(step, Climb)
        assert (step.tier.name, step.not_before - NOW) == (tier, after)


def test_what_would_come_too_late_is_not_tried() -> None:
    """A delivery that expires before its next attempt ends now."""
    assert climb(1, NOW, expires_at=NOW + timedelta(seconds=10)) == GiveUp(reason="expired")
    assert isinstance(climb(1, NOW, expires_at=NOW + timedelta(seconds=11)), Climb)


@given(attempt=st.integers(1, 5), wait=waits, factor=st.sampled_from([0.001, 0.1, 1.0]))
def test_never_earlier_than_asked(attempt: int, wait: timedelta | None, factor: float) -> None:
    """Neither the rung nor the provider's word is undercut, whatever the scale."""
    tiers = scaled(factor)
    step = climb(attempt, NOW, wait=wait, tiers=tiers)
    assert isinstance(step, Climb)
    assert step.tier in tiers
    assert step.not_before - NOW >= max(tiers[attempt - 1].delay, wait or timedelta(0))
    assert step.not_before - NOW >= step.tier.delay


def test_scaling_keeps_names() -> None:
    """A demo's faster ladder uses the same topics."""
    assert [tier.name for tier in scaled(0.01)] == [tier.name for tier in TIERS]
    assert scaled(0.01)[0].delay == timedelta(milliseconds=100)
