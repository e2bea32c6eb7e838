"""Retry-After (RFC 9110, 10.2.3): a delay in seconds, or a date."""

from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime

_LONGEST = timedelta(days=7)  # a longer wait is a mistake, or an attack on our memory


def retry_after(value: str | None, now: datetime) -> timedelta | None:
    """The delay that a provider asks for, at least zero and at most a week; None when it names none."""
    text = (value or "").strip()
    if text.isascii() and text.isdigit():
        return timedelta(seconds=min(float(text), _LONGEST.total_seconds()))
    try:
        at = parsedate_to_datetime(text)
    except (ValueError, OverflowError):
        return None
    at = at if at.tzinfo else at.replace(tzinfo=UTC)  # "-0000" and asctime dates are UTC without saying so
    return min(max(at - now, timedelta()), _LONGEST)
