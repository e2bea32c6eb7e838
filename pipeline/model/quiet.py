"""Quiet hours: when a user does not want to be disturbed, by the clock on their own wall.

A moment is quiet when the wall clock of the profile's time zone shows a time from `quiet_from` up to, not
including, `quiet_until`. So the window follows the wall through changes of the clock: of an hour that
comes twice both passes count, and an hour that is left out is never waited for.
"""

from collections.abc import Iterator
from datetime import UTC, datetime, time, timedelta, tzinfo
from functools import lru_cache
from zoneinfo import ZoneInfo

from pipeline.model.profile import Profile

_SECOND = timedelta(seconds=1)


@lru_cache(maxsize=1_024)  # a name that is unknown would be looked for in the file system every time
def zone(name: str) -> ZoneInfo | None:
    """The time zone of that name, or None when IANA does not know it."""
    try:
        return ZoneInfo(name)
    except (KeyError, OSError, ValueError):  # unknown, a directory, no relative path
        return None


def opens_at(profile: Profile, now: datetime) -> datetime:
    """The first moment from `now` on that is not quiet, UTC; `now` itself outside of the window.

    An unknown time zone counts as UTC. Where clocks are put forward over `quiet_until` it is the moment
    of the change.
    """
    begin, end = profile.quiet_from, profile.quiet_until
    if begin is None or end is None:
        return now
    where = zone(profile.timezone) or UTC
    if not _quiet(now, begin, end, where):
        return now
    return min(at for at in _ends(now, end, where) if at >= now and not _quiet(at, begin, end, where))


def _quiet(at: datetime, begin: time, end: time, where: tzinfo) -> bool:
    wall = at.astimezone(where).time()
    return begin <= wall < end if begin <= end else wall >= begin or wall < end


def _ends(now: datetime, end: time, where: tzinfo) -> Iterator[datetime]:
    """The moments, UTC, at which the wall may show `end`: three days, both passes of a double hour."""
    today = now.astimezone(where).date()
    for day in range(3):
        wall = datetime.combine(today + timedelta(days=day), end, where)
        first, second = wall.astimezone(UTC), wall.replace(fold=1).astimezone(UTC)
        yield first
        yield second
        if second < first:  # the wall never shows it
            yield _change(second, first, where)


def _change(before: datetime, after: datetime, where: tzinfo) -> datetime:
    """The moment between the two at which the clocks change, to the second."""
    offset = after.astimezone(where).utcoffset()
    while after - before > _SECOND:
        middle = before + (after - before) // 2 // _SECOND * _SECOND
        if middle.astimezone(where).utcoffset() == offset:
            after = middle
        else:
            before = middle
    return after
