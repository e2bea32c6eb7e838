"""What a replay reads out of a letter's bytes: by position as by schema, and the same bytes again."""

import shutil
from dataclasses import replace
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.adapters.wire.codec import Wire
from pipeline.adapters.wire.ids import LockFile
from pipeline.adapters.wire.sketch import LAYOUT, Sketcher, kind_of, scan
from pipeline.model.delivery import Delivery
from pipeline.model.errors import Unreadable
from pipeline.model.event import CHANNELS, LANES
from pipeline.model.replay import Sketch
from pipeline.model.topics import DEAD
from tests.support.hold import hold, stored
from tests.support.letters import as_read, dead, letter
from tests.support.make import NOW

WIRE = Wire(LockFile())
SKETCHER = Sketcher(LockFile())
_text = st.text(max_size=5) | st.text(min_size=60, max_size=70) | st.just("ü" * 9_000)
_times = st.none() | st.integers(0, 1 << 42).map(lambda ms: datetime.fromtimestamp(ms // 1000, UTC))
_deliveries = st.builds(
    Delivery,
    delivery_id=_text,
    event_id=_text,
    user_id=_text,
    tenant=_text,
    type=_text,
    category=_text,
    channel=st.sampled_from(CHANNELS),
    lane=st.sampled_from(LANES),
    provider=st.none() | _text,
    address_id=_text,
    address=_text,
    locale=_text,
    template_version=st.integers(0, 200),
    attempt=st.integers(1, 200),
    first_attempt_at=_times,
    not_before=_times,
    expires_at=_times,
    collapse_key=st.none() | _text,
    required=st.booleans(),
    profile_version=st.none() | st.integers(0, 1 << 40),
    decided_at=st.just(NOW),
    traceparent=st.none() | _text,
    event=st.binary(max_size=300),
)


def quick(value: bytes) -> Sketch | None:
    """What the compiled way says, where there is one."""
    return None if scan is None else scan(value)


def sketch(value: bytes) -> Sketch:
    """What the general way says."""
    return SKETCHER.by_schema(value)


@given(_deliveries, st.integers(1, 300))
def test_both_ways_read_what_was_written_and_number_it_anew(delivery: Delivery, attempt: int) -> None:
    """Every field that a fate depends on, and after another number every other byte as it was."""
    value = WIRE.encode(delivery)
    found = sketch(value)
    assert quick(value) in (None, found)
    for name in ("delivery_id", "tenant", "channel", "lane", "attempt", "collapse_key", "required", "event"):
        assert getattr(found, name) == getattr(delivery, name)
    ends = delivery.expires_at
    assert found.expires_at == (None if ends is None else int(ends.timestamp()) * 1000)
    again = SKETCHER.renumbered(value, found, attempt)
    assert WIRE.decode(Delivery, again) == replace(delivery, attempt=attempt)


def test_what_the_router_writes_is_read_by_position() -> None:
    """The quick way takes the usual delivery, or it would be of no use."""
    assert quick(WIRE.encode(dead("acme", 1))) is not None or shutil.which("cc") is None
    assert tuple(Delivery.__dataclass_fields__) == LAYOUT


@given(_deliveries, st.data())
def test_damaged_bytes_are_the_same_to_both(delivery: Delivery, data: st.DataObject) -> None:
    """What the quick way takes, the general way takes alike; neither raises anything but Unreadable."""
    value = bytearray(WIRE.encode(delivery))
    for _ in range(data.draw(st.integers(1, 3))):
        value[data.draw(st.integers(5, len(value) - 1))] = data.draw(st.integers(0, 255))
    damaged = bytes(value[: data.draw(st.integers(5, len(value)))])
    by_position = quick(damaged)
    try:
        general = sketch(damaged)
    except Unreadable:
        general = None
    if by_position is not None:
        assert by_position == general


@pytest.mark.parametrize("value", [b"", b"poison", b"\0\0\0\0\x01", b"\0\xff\xff\xff\xff" + b"x" * 30])
def test_what_is_no_delivery_is_unreadable(value: bytes) -> None:
    """Short, foreign, of another record, or of an id that nobody knows."""
    found = as_read(letter(dead("acme", 1)))._replace(value=value)
    with pytest.raises(Unreadable):
        SKETCHER.sketch(found)


def test_an_event_that_came_past_the_router_is_one() -> None:
    """By the topic that it was given up on; what is neither is never sent again."""
    one = dead("acme", 1)
    source = as_read(letter(one, topic="notification.events.bulk", value=one.event))
    found = SKETCHER.sketch(source)
    assert (found.kind, found.tenant, found.event_id, found.attempt) == ("event", "acme", "acme-1", 0)
    assert kind_of("notification.retry.10s") == "delivery"
    assert kind_of("notification.decisions") == "other"
    with pytest.raises(Unreadable, match="only deliveries and events"):
        SKETCHER.sketch(as_read(letter(one, topic="notification.outcomes")))


def test_a_hold_is_named_by_what_was_held_and_says_what_its_event_says() -> None:
    """Until it expires; a dead letter of one is never sent."""
    record = stored(hold(source_partition=3, source_offset=17))
    found = as_read(letter(dead("acme", 1)))._replace(
        topic=record.topic, value=record.value or b"", headers={}
    )
    said = SKETCHER.sketch(found)
    assert (said.kind, said.delivery_id, said.event_id) == ("hold", "notification.events.normal/3/17", "e-1")
    assert said.expires_at == int(hold().expires_at.timestamp() * 1000)
    assert SKETCHER.event(said).event_id == "e-1"
    with pytest.raises(Unreadable, match="only deliveries and events"):
        SKETCHER.sketch(found._replace(topic=DEAD, headers={"__dlq.errors.topic": record.topic.encode()}))
