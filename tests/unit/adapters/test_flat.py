"""The compiled way of flat records says what the general way says, or leaves it to it."""

import shutil
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.adapters.wire import flat
from pipeline.adapters.wire.codec import Wire
from pipeline.adapters.wire.ids import LockFile
from pipeline.model.delivery import Delivery
from pipeline.model.errors import Unreadable
from pipeline.model.event import CHANNELS, LANES, Event
from pipeline.model.hold import Hold
from pipeline.model.outcome import Outcome
from pipeline.ports import R, Record


def _general() -> Wire:
    """A codec as it is where there was no compiler."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(flat, "native", None)
        wire = Wire(LockFile())
        wire.ready()
    return wire


QUICK, GENERAL = Wire(LockFile()), _general()

times = st.datetimes(datetime(1, 1, 1), datetime(9999, 12, 31), timezones=st.just(UTC))  # noqa: DTZ001
longs, ints = st.integers(-(2**63), 2**63 - 1), st.integers(-(2**31), 2**31 - 1)
texts = st.text() | st.text(min_size=200)
values = st.none() | st.booleans() | longs | st.floats(allow_nan=False) | texts
events = st.builds(
    Event,
    created_at=times,
    expires_at=st.none() | times,
    deliver_at=st.none() | times,
    priority=st.sampled_from(LANES),
    channels=st.none() | st.lists(st.sampled_from(CHANNELS)).map(tuple),
    data=st.dictionaries(st.text(), values),
)
deliveries = st.builds(
    Delivery,
    address=texts,
    attempt=ints,
    template_version=ints,
    first_attempt_at=st.none() | times,
    not_before=st.none() | times,
    expires_at=st.none() | times,
    profile_version=st.none() | longs,
    decided_at=times,
    event=st.binary() | st.binary(min_size=5_000, max_size=5_000),
)
outcomes = st.builds(
    Outcome,
    reason=texts,
    attempt=ints,
    not_before=st.none() | times,
    latency_ms=ints,
    source_partition=ints,
    source_offset=longs,
    at=times,
)
holds = st.builds(
    Hold, due_at=times, expires_at=times, source_partition=ints, source_offset=longs, held_at=times
)
records = events | deliveries | outcomes | holds


def read(wire: Wire, cls: type[R], value: bytes) -> R | None:
    """The record, or None for what is unreadable."""
    try:
        return wire.decode(cls, value)
    except Unreadable:
        return None


@given(record=records)
def test_both_ways_write_and_read_the_same(record: Record) -> None:
    """The bytes are the same, and so is what they say."""
    value = GENERAL.encode(record)
    assert QUICK.encode(record) == value
    assert QUICK.decode(type(record), value) == GENERAL.decode(type(record), value)


@given(
    record=records,
    places=st.lists(st.tuples(st.integers(0, 10_000), st.integers(0, 255)), max_size=4),
    cut=st.integers(0, 400),
    more=st.binary(max_size=2),
)
def test_both_ways_refuse_the_same(
    record: Record, places: list[tuple[int, int]], cut: int, more: bytes
) -> None:
    """Whatever happens to the bytes, both give the same record or none."""
    damaged = bytearray(GENERAL.encode(record))
    for place, byte in places:
        damaged[place % len(damaged)] = byte
    value = bytes(damaged[: len(damaged) - cut if cut < len(damaged) else None]) + more
    assert repr(read(QUICK, type(record), value)) == repr(
        read(GENERAL, type(record), value)
    )  # nan is not nan


@given(days=st.integers(0, 3_652_058), ms=st.integers(0, 86_399_999))
def test_every_day_is_the_calendars(days: int, ms: int) -> None:
    """A time of any day from the year 1 to 9999 survives."""
    at = datetime(1, 1, 1, tzinfo=UTC) + timedelta(days=days, milliseconds=ms)
    record = Event(event_id="", user_id="", tenant="", type="", created_at=at)
    assert QUICK.decode(Event, GENERAL.encode(record)).created_at == at


def test_it_is_compiled_where_a_compiler_is() -> None:
    """A slip in the build would only show as slowness."""
    assert flat.native is not None or shutil.which("cc") is None
