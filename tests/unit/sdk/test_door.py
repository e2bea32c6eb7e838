"""Both doors refuse a bad event before anything leaves the process."""

from datetime import timedelta

import pytest

from pipeline.adapters.wire.codec import Wire
from pipeline.adapters.wire.ids import LockFile
from pipeline.model.errors import InvalidEvent, PayloadTooLarge
from pipeline.model.event import Event
from pipeline.sdk.door import prepare
from tests.support.make import CATALOGUE, NOW, event

WIRE = Wire(LockFile())


def test_a_record_goes_to_its_lane_under_its_users_key() -> None:
    """Topic by lane, key by tenant and user, the trace in a header, final bytes."""
    sent = event(priority="urgent", traceparent="00-1-2-01")
    record = prepare(sent, CATALOGUE, WIRE, NOW)
    assert (record.topic, record.key) == ("notification.events.urgent", b"acme/u-1")
    assert record.headers == (("traceparent", b"00-1-2-01"),)
    assert WIRE.decode(Event, record.value) == sent


def test_an_invalid_event_is_refused_with_every_field_and_its_fix() -> None:
    """All that is wrong in one answer."""
    bad = event(type="flight.canceled", tenant="ACME", expires_at=NOW - timedelta(hours=1))
    with pytest.raises(InvalidEvent) as refused:
        prepare(bad, CATALOGUE, WIRE, NOW)
    assert {problem.field for problem in refused.value.problems} == {"type", "tenant", "expires_at"}
    assert all(problem.fix for problem in refused.value.problems)


def test_a_payload_above_the_limit_is_refused() -> None:
    """256 KiB is the largest event; collapse keys have no limit of their own."""
    with pytest.raises(PayloadTooLarge, match="at most 262,144"):
        prepare(event(collapse_key="x" * 270_000), CATALOGUE, WIRE, NOW)
