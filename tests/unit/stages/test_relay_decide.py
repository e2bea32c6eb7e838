"""Which outbox rows Kafka is never asked to take."""

from uuid import UUID

import pytest

from pipeline.model.topics import DEAD, LARGEST_EVENT
from pipeline.ports import OutboxRow
from pipeline.stages.relay.decide import refusal

NORMAL = "notification.events.normal"


@pytest.mark.parametrize(
    ("topic", "value", "words"),
    [
        (NORMAL, b"x", ""),
        (NORMAL, b"x" * LARGEST_EVENT, ""),
        # one byte more would make a delivery that the broker refuses
        (NORMAL, b"x" * (LARGEST_EVENT + 1), "has 262,145 bytes"),
        (NORMAL, b"", "has 0 bytes"),
        # a typo, and a topic that is ours but takes no events
        ("notification.events.norml", b"x", "is none of notification.events.bulk"),
        (DEAD, b"x", "is none of"),
    ],
)
def test_only_events_of_a_decent_size_are_produced(topic: str, value: bytes, words: str) -> None:
    """What came past the door is refused with its reason, everything else passes."""
    found = refusal(OutboxRow(UUID(int=1), topic, b"acme/u-1", value))
    assert (found == "") if not words else (words in found)
