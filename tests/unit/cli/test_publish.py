"""Times as people type them."""

from datetime import UTC, datetime, timedelta

import pytest

from pipeline.cli.publish import moment
from pipeline.model.errors import ConfigurationError
from tests.support.make import NOW


@pytest.mark.parametrize(
    ("text", "at"),
    [
        ("+90s", NOW + timedelta(seconds=90)),
        ("+15m", NOW + timedelta(minutes=15)),
        ("-2h", NOW - timedelta(hours=2)),
        ("+30d", NOW + timedelta(days=30)),
        ("2026-03-08T05:25:00-05:00", datetime(2026, 3, 8, 10, 25, tzinfo=UTC)),
        ("2026-03-08 05:25Z", datetime(2026, 3, 8, 5, 25, tzinfo=UTC)),
    ],
)
def test_a_time_is_written_out_or_counted_from_now(text: str, at: datetime) -> None:
    """Both forms that the help names."""
    assert moment("--deliver-at", text, NOW) == at


@pytest.mark.parametrize("text", ["", "tomorrow", "2h", "+2w", "+h", "2026-03-08T05:25:00", "+9999999d"])
def test_a_time_that_could_mean_two_is_refused(text: str) -> None:
    """A time without its zone, or in no form: which option, and how to write it."""
    with pytest.raises(ConfigurationError, match=r"--deliver-at .*write it as 2026-"):
        moment("--deliver-at", text, NOW)
