"""What both doors do before anything leaves the process: check, encode, measure."""

from datetime import datetime
from typing import Protocol

from pipeline.model import topics
from pipeline.model.catalogue import Catalogue, problems
from pipeline.model.errors import InvalidEvent, PayloadTooLarge
from pipeline.model.event import Event
from pipeline.model.record import Headers, Outgoing


class Encoder(Protocol):
    """`pipeline.adapters.wire.codec.Wire` is one."""

    def encode(self, record: Event) -> bytes:
        """The bytes of an event."""
        ...


def prepare(event: Event, catalogue: Catalogue, encoder: Encoder, now: datetime) -> Outgoing:
    """The record to produce. Raises InvalidEvent (every wrong field with its fix), PayloadTooLarge."""
    if found := problems(event, catalogue, now):
        raise InvalidEvent(found)
    value = encoder.encode(event)
    if len(value) > topics.LARGEST_EVENT:
        raise PayloadTooLarge(
            f"event {event.event_id} has {len(value):,} bytes, at most {topics.LARGEST_EVENT:,}: "
            "send a link to the rest"
        )
    headers: Headers = (("traceparent", event.traceparent.encode()),) if event.traceparent else ()
    return Outgoing(topic=topics.events(event.priority), key=event.key, value=value, headers=headers)
