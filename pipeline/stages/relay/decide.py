"""Which rows of the outbox Kafka can take. Pure."""

from pipeline.model.event import LANES
from pipeline.model.record import Writable
from pipeline.model.topics import LARGEST_EVENT, events

_TOPICS = frozenset(events(lane) for lane in LANES)


def refusal(record: Writable) -> str:
    """Why a record may not be produced, in words for an operator; empty when it may.

    The door refuses such events; these came past it, by hand or by an older program.
    """
    if record.topic not in _TOPICS:
        return f"topic {record.topic!r} is none of {', '.join(sorted(_TOPICS))}"
    size = len(record.value or b"")
    if not 0 < size <= LARGEST_EVENT:
        return f"payload has {size:,} bytes; an event has 1 to {LARGEST_EVENT:,}"
    return ""
