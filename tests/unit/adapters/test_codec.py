"""The wire format: what goes in comes out, and damage is named."""

import contextlib
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.adapters.wire.codec import Wire
from pipeline.adapters.wire.ids import LockFile
from pipeline.model.decision import ChannelVerdict, Decision, Gate, Planned
from pipeline.model.delivery import Delivery
from pipeline.model.engagement import Engagement
from pipeline.model.errors import Unreadable
from pipeline.model.event import CHANNELS, LANES, Event
from pipeline.model.hold import Hold
from pipeline.model.outcome import Outcome
from pipeline.ports import Record
from tests.support.make import event

WIRE = Wire(LockFile())

# Avro keeps milliseconds; a year that datetime and the epoch both hold.
times = st.datetimes(datetime(1971, 1, 1), datetime(2100, 1, 1), timezones=st.just(UTC)).map(  # noqa: DTZ001
    lambda at: at.replace(microsecond=at.microsecond // 1000 * 1000)
)
values = st.none() | st.booleans() | st.integers(-(2**63), 2**63 - 1) | st.floats(allow_nan=False) | st.text()
events = st.builds(
    Event,
    created_at=times,
    expires_at=st.none() | times,
    deliver_at=st.none() | times,
    priority=st.sampled_from(LANES),
    channels=st.none() | st.lists(st.sampled_from(CHANNELS)).map(tuple),
    data=st.dictionaries(st.text(), values),
)
longs, ints = st.integers(0, 2**63 - 1), st.integers(0, 2**31 - 1)
decisions = st.builds(
    Decision,
    gates=st.lists(st.builds(Gate)).map(tuple),
    channels=st.lists(st.builds(ChannelVerdict)).map(tuple),
    deliveries=st.lists(st.builds(Planned)).map(tuple),
    profile_version=st.none() | longs,
    template_version=st.none() | ints,
    counters=st.dictionaries(st.text(), longs),
    source_partition=ints,
    source_offset=longs,
    decided_at=times,
)
deliveries = st.builds(
    Delivery,
    attempt=ints,
    template_version=ints,
    first_attempt_at=st.none() | times,
    not_before=st.none() | times,
    expires_at=st.none() | times,
    profile_version=st.none() | longs,
    decided_at=times,
)
outcomes = st.builds(
    Outcome,
    attempt=ints,
    not_before=st.none() | times,
    latency_ms=ints,
    source_partition=ints,
    source_offset=longs,
    at=times,
)
engagements = st.builds(Engagement, facts=st.dictionaries(st.text(), st.text()), at=times)
holds = st.builds(
    Hold, due_at=times, expires_at=times, source_partition=ints, source_offset=longs, held_at=times
)


@given(record=events | decisions | deliveries | outcomes | engagements | holds)
def test_every_record_survives_the_wire(record: Record) -> None:
    """What was written is what is read, field by field."""
    assert WIRE.decode(type(record), WIRE.encode(record)) == record


@given(
    places=st.lists(st.tuples(st.integers(0, 10_000), st.integers(0, 255)), max_size=6),
    cut=st.integers(0, 400),
)
def test_damaged_bytes_are_unreadable_and_nothing_else(places: list[tuple[int, int]], cut: int) -> None:
    """Whatever happens to the bytes, the reader gives an event or says Unreadable."""
    damaged = bytearray(WIRE.encode(event()))
    for place, byte in places:
        damaged[place % len(damaged)] = byte
    with contextlib.suppress(Unreadable):
        assert isinstance(WIRE.decode(Event, bytes(damaged[: cut or None])), Event)


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (None, "shorter than the 5 bytes"),
        (b"\0\0\0", "shorter than the 5 bytes"),
        (b'{"event_id": 1}', "magic byte is 0x7b"),
        (b"\0\x7f\xff\xff\xff rest", "2147483647"),
        (WIRE.encode(event()) + b"more", "4 bytes are left over"),
    ],
)
def test_the_reason_of_unreadable_bytes_is_named(value: bytes | None, message: str) -> None:
    """Whoever looks at a dead letter sees what is wrong with it."""
    with pytest.raises(Unreadable, match=message):
        WIRE.decode(Event, value)


def test_a_record_of_another_kind_is_named() -> None:
    """An event on the decisions topic is told apart by its schema, not misread."""
    with pytest.raises(Unreadable, match=r"everpost\.Event, not everpost\.Decision"):
        WIRE.decode(Decision, WIRE.encode(event()))
