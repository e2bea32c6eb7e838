"""Quiet hours by the wall clock: over midnight, and over changes of the clock."""

from datetime import UTC, datetime, time, timedelta
from zoneinfo import ZoneInfo, available_timezones

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.model.quiet import opens_at
from tests.support.make import NOW, profile

NIGHT = (time(22), time(7))

CASES = [
    # zone, quiet hours, now (UTC), opens (UTC)
    ("UTC", NIGHT, "2026-01-10T12:00", "2026-01-10T12:00"),  # by day
    ("UTC", NIGHT, "2026-01-10T22:00", "2026-01-11T07:00"),  # the first quiet moment
    ("UTC", NIGHT, "2026-01-10T21:59", "2026-01-10T21:59"),  # the last one before
    ("UTC", NIGHT, "2026-01-11T00:00", "2026-01-11T07:00"),  # after midnight
    ("UTC", NIGHT, "2026-01-11T07:00", "2026-01-11T07:00"),  # the first moment that is open
    ("UTC", (time(13), time(15)), "2026-01-10T14:00", "2026-01-10T15:00"),  # within a day
    ("UTC", (time(7), time(7)), "2026-01-10T07:00", "2026-01-10T07:00"),  # equal: never quiet
    ("No/Where", NIGHT, "2026-01-10T23:00", "2026-01-11T07:00"),  # an unknown zone counts as UTC
    ("Asia/Kathmandu", NIGHT, "2026-01-10T17:00", "2026-01-11T01:15"),  # UTC+5:45
    ("America/New_York", NIGHT, "2026-03-08T04:00", "2026-03-08T11:00"),  # the night that is an hour shorter
    ("America/New_York", NIGHT, "2026-11-01T03:00", "2026-11-01T12:00"),  # the one that is an hour longer
    # It ends at 02:30, which the clock jumps over: open from the jump on.
    ("Europe/Berlin", (time(22), time(2, 30)), "2026-03-28T23:00", "2026-03-29T01:00"),
    ("Europe/Berlin", (time(22), time(3)), "2026-03-28T23:00", "2026-03-29T01:00"),
    # It begins at 02:30, which the clock jumps over: quiet from the jump on.
    ("Europe/Berlin", (time(2, 30), time(5)), "2026-03-29T00:59", "2026-03-29T00:59"),
    ("Europe/Berlin", (time(2, 30), time(5)), "2026-03-29T01:00", "2026-03-29T03:00"),
    # It ends at 02:30, which the clock shows twice: each pass ends there.
    ("Europe/Berlin", (time(22), time(2, 30)), "2026-10-25T00:00", "2026-10-25T00:30"),
    ("Europe/Berlin", (time(22), time(2, 30)), "2026-10-25T00:45", "2026-10-25T00:45"),
    ("Europe/Berlin", (time(22), time(2, 30)), "2026-10-25T01:15", "2026-10-25T01:30"),
    ("Australia/Lord_Howe", (time(22), time(2, 15)), "2026-10-03T12:00", "2026-10-03T15:30"),  # half an hour
    ("Pacific/Apia", NIGHT, "2011-12-30T09:00", "2011-12-30T17:00"),  # Samoa left out a whole day
]


@pytest.mark.parametrize(("where", "hours", "now", "opens"), CASES)
def test_the_window_opens_by_the_wall_clock(
    where: str, hours: tuple[time, time], now: str, opens: str
) -> None:
    """Nobody is woken because their country changed its clocks."""
    who = profile(timezone=where, quiet_from=hours[0], quiet_until=hours[1])
    found = opens_at(who, datetime.fromisoformat(now).replace(tzinfo=UTC))
    assert found == datetime.fromisoformat(opens).replace(tzinfo=UTC)


def test_no_quiet_hours_are_never_quiet() -> None:
    """Who has set none can be reached at any time."""
    assert opens_at(profile(), NOW) == NOW


minutes = st.integers(0, 24 * 60 - 1).map(lambda number: time(number // 60, number % 60))
instants = st.integers(
    0, (datetime(2038, 1, 1, tzinfo=UTC) - datetime(1995, 1, 1, tzinfo=UTC)) // timedelta(seconds=1)
)


@given(where=st.sampled_from(sorted(available_timezones())), begin=minutes, end=minutes, second=instants)
def test_it_opens_soon_and_never_into_the_quiet(where: str, begin: time, end: time, second: int) -> None:
    """For every zone and moment: never before now, never into the window, within a day and the longest change."""
    now = datetime(1995, 1, 1, tzinfo=UTC) + timedelta(seconds=second)
    opens = opens_at(profile(timezone=where, quiet_from=begin, quiet_until=end), now)
    wall = opens.astimezone(ZoneInfo(where)).time()
    assert not (begin <= wall < end if begin <= end else wall >= begin or wall < end)
    assert now <= opens <= now + timedelta(hours=25)
    assert opens.utcoffset() == timedelta()


@given(begin=minutes, end=minutes, days=st.integers(-2, 2), minute=st.integers(0, 1439))
@pytest.mark.parametrize(
    ("where", "change"),
    [
        ("Europe/Berlin", "2026-03-29"), ("Europe/Berlin", "2026-10-25"), ("America/New_York", "2026-03-08"),
        ("America/New_York", "2026-11-01"), ("Australia/Lord_Howe", "2026-04-05"),
        ("Australia/Lord_Howe", "2026-10-04"), ("Africa/Casablanca", "2026-02-15"), ("America/Santiago", "2026-09-06"),
    ],
)  # fmt: skip
def test_around_a_change_of_the_clock_no_minute_is_waited_in_vain(
    where: str, change: str, begin: time, end: time, days: int, minute: int
) -> None:
    """Found minute by minute: it opens where the wall first shows the end of the window, or jumps past it."""
    zone = ZoneInfo(where)
    now = datetime.fromisoformat(change).replace(tzinfo=UTC) + timedelta(days=days, minutes=minute)
    opens = opens_at(profile(timezone=where, quiet_from=begin, quiet_until=end), now)
    at = now
    while at < opens:
        wall = at.astimezone(zone)
        set_back = (at - timedelta(minutes=1)).astimezone(zone).utcoffset() != wall.utcoffset()
        quiet = begin <= wall.time() < end if begin <= end else wall.time() >= begin or wall.time() < end
        # A clock that is set back may show a few open minutes again before the window: they are not used.
        assert quiet or wall.fold or set_back
        at += timedelta(minutes=1)
