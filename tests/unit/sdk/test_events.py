"""Making an event: its id, its time, its trace."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from opentelemetry import trace

from pipeline.sdk import new_event
from pipeline.sdk.events import uuid7
from tests.support.make import CATALOGUE

NOW = datetime(2026, 3, 8, 12, 0, tzinfo=UTC)


@given(
    st.datetimes(datetime(1970, 1, 1), datetime(9999, 1, 1), timezones=st.just(UTC)),  # noqa: DTZ001
    st.integers(0, 2**74 - 1),
)
def test_uuid7_holds_time_version_variant_and_all_of_the_chance(now: datetime, chance: int) -> None:
    """RFC 9562, 5.7: 48 bits of milliseconds, version 7, variant 10, 74 random bits."""
    made = uuid7(now, chance)
    assert made.int >> 80 == (now - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(milliseconds=1)
    assert (made.version, made.variant) == (7, "specified in RFC 4122")
    assert (made.int >> 64 & 0xFFF) << 62 | made.int & (1 << 62) - 1 == chance


def test_ids_sort_by_time() -> None:
    """A later event has a greater id."""
    assert str(uuid7(NOW, 2**74 - 1)) < str(uuid7(NOW + timedelta(milliseconds=1), 0))


def test_what_is_missing_is_filled_in() -> None:
    """A fresh id, an aware time, the type's own lane; nothing else is invented."""
    first = new_event("flight.cancelled", tenant="acme", user_id="u-1", data={"flight": "UA 1"})
    second = new_event("flight.cancelled", tenant="acme", user_id="u-1", data={"flight": "UA 1"})
    assert first.event_id != second.event_id
    assert first.created_at.tzinfo is UTC
    assert (first.priority, first.channels, first.traceparent) == ("normal", None, None)


def test_given_values_are_kept() -> None:
    """An id of the caller's own makes a repeat harmless."""
    event = new_event(
        "flight.cancelled", tenant="acme", user_id="u-1", data={}, event_id="order-1", created_at=NOW, channels=["sms"]
    )  # fmt: skip
    assert (event.event_id, event.created_at, event.channels) == ("order-1", NOW, ("sms",))


def test_the_current_span_becomes_the_traceparent() -> None:
    """Who looks at the event later finds the request that made it."""
    context = trace.SpanContext(0x1234, 0x5678, is_remote=False, trace_flags=trace.TraceFlags(1))
    with trace.use_span(trace.NonRecordingSpan(context)):
        event = new_event("flight.cancelled", tenant="acme", user_id="u-1", data={})
    assert event.traceparent == "00-00000000000000000000000000001234-0000000000005678-01"


def test_the_lane_is_the_types_own_when_the_catalogue_is_given() -> None:
    """A one-time code from code travels in the lane that the catalogue gives it; a caller's word wins."""
    urgent = {"flight.cancelled": replace(CATALOGUE["flight.cancelled"], lane="urgent")}

    def lane(**more: Any) -> str:
        return new_event("flight.cancelled", tenant="acme", user_id="u-1", data={}, **more).priority

    assert (lane(), lane(catalogue=urgent), lane(catalogue=urgent, priority="bulk")) == (
        "normal",
        "urgent",
        "bulk",
    )
