"""A first look sees what the codec reads, or nothing."""

from dataclasses import replace
from datetime import timedelta

from hypothesis import given
from hypothesis import strategies as st

from pipeline.adapters.wire.codec import Wire
from pipeline.adapters.wire.ids import LockFile
from pipeline.model import avro
from pipeline.model.errors import Unreadable
from pipeline.model.event import LANES, Event
from pipeline.model.moment import ms
from tests.support.make import NOW, event

WIRE = Wire(LockFile())
words = st.text(max_size=70)
values = st.none() | st.booleans() | st.integers(-(2**63), 2**63 - 1) | st.floats(allow_nan=False) | words
anything: st.SearchStrategy[Event] = st.builds(
    event,
    event_id=words,
    user_id=words,
    tenant=words,
    type=words,
    priority=st.sampled_from(LANES),
    expires_at=st.none() | st.integers(-9, 9).map(lambda hours: NOW + timedelta(hours=hours)),
    collapse_key=st.none() | words,
    locale=st.none() | words,
    traceparent=st.none() | words,
    data=st.dictionaries(words, values, max_size=4),
)


def owner(event: Event) -> bytes:
    """How the event names its user."""
    return avro.text(event.user_id) + avro.text(event.tenant)


def kind(event: Event) -> bytes:
    """How the event names its type and lane."""
    return avro.text(event.type) + avro.long(LANES.index(event.priority))


@given(event=anything)
def test_it_sees_what_is_there(event: Event) -> None:
    """Every field that it gives is the event's own."""
    seen = WIRE.glance(WIRE.encode(event), owner(event))
    assert seen is not None
    assert (seen.event_id, seen.data) == (event.event_id, event.data)
    assert seen.event_id_encoded == avro.text(event.event_id)
    assert seen.kind == kind(event)
    assert seen.created_at == ms(event.created_at)
    assert seen.expires_at == (None if event.expires_at is None else ms(event.expires_at))
    for found, field in (
        (seen.collapse_key, event.collapse_key),
        (seen.locale, event.locale),
        (seen.traceparent, event.traceparent),
    ):
        assert found == (None if field is None else avro.text(field))


def test_it_leaves_alone_what_is_no_ordinary_event() -> None:
    """Another user's, another schema's, with a deliver_at or channels of its own, or with bytes left over."""
    plain = event()
    value = WIRE.encode(plain)
    assert WIRE.glance(value, owner(event(user_id="u-2"))) is None
    assert WIRE.glance(b"\0\0\0\0\x63" + value[5:], owner(plain)) is None
    assert WIRE.glance(value + b"\0", owner(plain)) is None
    for other in (replace(plain, deliver_at=NOW), replace(plain, channels=("sms",))):
        assert WIRE.glance(WIRE.encode(other), owner(other)) is None


@given(event=anything, at=st.integers(0, 300), byte=st.integers(0, 255))
def test_damage_is_seen_by_both_or_by_the_codec(event: Event, at: int, byte: int) -> None:
    """What it can make sense of, the codec can, and it is the same.

    But for a type that nobody has and times beyond the calendar, which whoever asked finds out.
    """
    value = bytearray(WIRE.encode(event))
    value[at % len(value)] = byte
    seen = WIRE.glance(bytes(value), owner(event))
    if (
        seen is None
        or seen.kind != kind(event)
        or abs(seen.created_at) > 2**45
        or abs(seen.expires_at or 0) > 2**45
    ):
        return
    try:
        read = WIRE.decode(Event, bytes(value))
    except Unreadable as problem:
        raise AssertionError("a glance at what is unreadable") from problem
    assert (seen.event_id, seen.created_at) == (read.event_id, ms(read.created_at))
    assert repr(dict(seen.data)) == repr(dict(read.data))
