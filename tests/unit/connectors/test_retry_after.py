"""Retry-After as providers write it."""

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from connectors._retry_after import retry_after

NOW = datetime(2026, 11, 23, 12, 0, tzinfo=UTC)
WEEK = timedelta(days=7)


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        ("0", 0),
        ("120", 120),
        (" 7 ", 7),
        ("Mon, 23 Nov 2026 12:01:30 GMT", 90),
        ("Mon, 23 Nov 2026 12:01:30 -0000", 90),
        ("Monday, 23-Nov-26 12:00:30 GMT", 30),  # RFC 850, obsolete and still to be read
        ("Mon, 23 Nov 2026 11:00:00 GMT", 0),  # past
        ("99999999999999999999", WEEK.total_seconds()),
        ("Mon, 23 Nov 9998 11:00:00 GMT", WEEK.total_seconds()),
    ],
)
def test_seconds_and_dates_become_a_delay(value: str, seconds: float) -> None:
    """Both forms of RFC 9110 are read, never negative and never beyond a week."""
    assert retry_after(value, NOW) == timedelta(seconds=seconds)


@pytest.mark.parametrize("value", [None, "", "soon", "-5", "1.5", "²", "Mon, 99 Nov 2026 12:00:00 GMT"])
def test_what_names_no_delay_is_none(value: str | None) -> None:
    """A header that cannot be read is as good as none."""
    assert retry_after(value, NOW) is None


@given(st.text())
def test_no_header_raises(value: str) -> None:
    """Whatever a provider writes, the result is a delay within bounds or none."""
    found = retry_after(value, NOW)
    assert found is None or timedelta() <= found <= WEEK
