"""Which outbox rows Kafka is never asked to take."""

from uuid import UUID

import pytest

from pipeline.model.topics import DEAD, LARGEST_EVENT
from pipeline.ports import OutboxRow
from pipeline.stages.relay.decide import refusal

NORMAL = "notification.events.normal"
HEAD = b"\0\0\0\0\1"  # of a record in the wire format


@pytest.mark.parametrize(
    ("topic", "value", "words"),
    [
        (NORMAL, HEAD + b"x", ""),
        (NORMAL, HEAD + b"x" * (LARGEST_EVENT - len(HEAD)), ""),
        # one byte more would make a delivery that the broker refuses
        (NORMAL, HEAD + b"x" * (LARGEST_EVENT + 1 - len(HEAD)), "has 262,145 bytes"),
        (NORMAL, b"", "has 0 bytes"),
        # no record in the wire format: JSON, and a head with nothing behind it
        (NORMAL, b'{"a": 1}', "begins with 7b22612"),
        (NORMAL, HEAD, "begins with 0000000001;"),
        # a typo, and a topic that is ours but takes no events
        ("notification.events.norml", HEAD + b"x", "is none of notification.events.bulk"),
        (DEAD, HEAD + b"x", "is none of"),
    ],
)
def test_only_events_of_a_decent_size_are_produced(topic: str, value: bytes, words: str) -> None:
    """What came past the door is refused with its reason, everything else passes."""
    found = refusal(OutboxRow(UUID(int=1), topic, b"acme/u-1", value))
    assert (found == "") if not words else (words in found)
