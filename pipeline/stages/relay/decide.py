"""Which rows of the outbox Kafka can take. Pure."""

from pipeline.model.event import LANES
from pipeline.model.record import Writable
from pipeline.model.topics import LARGEST_EVENT, events

_MAGIC, _HEAD = 0, 5  # the Confluent wire format: this byte, a schema id of 4 bytes, then Avro
_TOPICS = frozenset(events(lane) for lane in LANES)


def refusal(record: Writable) -> str:
    """Why a record may not be produced, in words for an operator; empty when it may.

    The door refuses such events; these came past it, by hand or by an older program. What can be known by
    reading the whole event (its type, its variables) is the router's: it keeps the bytes and says why.
    """
    if record.topic not in _TOPICS:
        return f"topic {record.topic!r} is none of {', '.join(sorted(_TOPICS))}"
    value = record.value or b""
    if not 0 < len(value) <= LARGEST_EVENT:
        return f"payload has {len(value):,} bytes; an event has 1 to {LARGEST_EVENT:,}"
    if value[0] != _MAGIC or len(value) <= _HEAD:
        return (
            f"payload begins with {value[:_HEAD].hex()}; a record begins with 00 and 4 bytes of a schema id"
        )
    return ""
