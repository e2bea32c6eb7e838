"""When a hold is released: due or expired, by whichever clock, and into its own partition."""

from datetime import timedelta

from hypothesis import given
from hypothesis import strategies as st

from pipeline.adapters.wire.codec import Wire
from pipeline.adapters.wire.ids import LockFile
from pipeline.model.hold import Hold
from pipeline.model.record import Outgoing
from pipeline.model.topics import DEAD, RELEASED
from pipeline.stages.hold.decide import LONGEST_NAP, nap, read, to_release, to_timer
from tests.support.hold import hold, stored
from tests.support.make import NOW

WIRE = Wire(LockFile())
HOUR, MONTH = timedelta(hours=1), timedelta(days=31)
spans = st.timedeltas(timedelta(seconds=1), timedelta(days=400))


@given(due=spans, expires=spans, now=spans)
def test_a_hold_wakes_when_it_is_due_and_at_its_expiry_at_the_latest(
    due: timedelta, expires: timedelta, now: timedelta
) -> None:
    """A hold of a year is a time like any other; when it is stored does not move it."""
    one = hold(due_at=NOW + due, expires_at=NOW + expires)
    assert to_timer(one, stored(one), NOW + now).wake_at == NOW + min(due, expires)


@given(wait=spans, ahead=st.timedeltas(-MONTH, MONTH))
def test_two_clocks_that_differ_do_not_play_ping_pong(wait: timedelta, ahead: timedelta) -> None:
    """A release that was held again waits as long as the router asked for, by the clock that wakes it."""
    one = hold(source_topic=RELEASED, due_at=NOW + wait, expires_at=NOW + wait + MONTH)
    wake_at = to_timer(one, stored(one), NOW + ahead).wake_at
    assert wake_at >= one.due_at
    assert wake_at >= min(NOW + ahead + wait, one.expires_at)


def test_a_release_is_the_same_bytes_in_the_same_partition() -> None:
    """The router that has held an event is the one that gets it back, key and all."""
    one = hold(source_partition=3)
    release = to_release(to_timer(one, stored(one, partition=3), NOW))
    assert release == Outgoing(topic=RELEASED, key=b"acme/u-1", value=WIRE.encode(one), partition=3)
    assert WIRE.decode(Hold, release.value) == one


def test_what_is_no_hold_of_its_partition_is_a_dead_letter_and_the_rest_goes_on() -> None:
    """Bytes that nobody can read, a hold in a foreign partition, and one of no topic of events."""
    good = hold()
    foreign, nowhere = hold(source_partition=2), hold(source_topic="a\0b")
    broken = stored(good, value=b"?")
    found = read([broken, stored(foreign), stored(nowhere), stored(good)], WIRE, NOW)
    assert [timer.value for timer in found.timers] == [WIRE.encode(good)]
    assert [letter.topic for letter in found.dead] == [DEAD] * 3
    headers = dict(found.dead[1].headers)
    assert headers["__dlq.errors.stage"] == b"hold"
    assert headers["__dlq.errors.message"] == b"a hold of notification.events.normal[2] in partition 0"


@given(next_in=st.none() | st.timedeltas(-MONTH, MONTH))
def test_a_nap_ends_at_the_next_timer_and_is_never_long(next_in: timedelta | None) -> None:
    """A clock that jumps forward is noticed within LONGEST_NAP, and nobody spins."""
    seconds = nap(None if next_in is None else NOW + next_in, NOW)
    assert 0 < seconds <= LONGEST_NAP
    if next_in is not None and next_in > timedelta():
        assert seconds <= next_in.total_seconds()
