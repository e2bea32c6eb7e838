"""The delivery: one message to one address, carried from the router to a sender."""

from dataclasses import dataclass
from datetime import datetime
from uuid import UUID, uuid5

from pipeline.model.event import Channel, Lane

# Fixed for ever: another value would give every delivery of a replay a new identity.
_DELIVERIES = UUID("6f1a3c52-6f0e-5c0e-9d0a-0b7e3f2d9a41")


@dataclass(frozen=True, slots=True, kw_only=True)
class Delivery:
    """Mirrors `schemas/delivery.avsc`, field by field."""

    delivery_id: str
    event_id: str
    user_id: str
    tenant: str
    type: str
    category: str
    channel: Channel
    lane: Lane
    provider: str | None = None
    address_id: str
    address: str  # personal data: never logged
    locale: str
    template_version: int
    attempt: int = 1
    first_attempt_at: datetime | None = None
    not_before: datetime | None = None
    expires_at: datetime | None = None
    collapse_key: str | None = None
    required: bool = False
    profile_version: int | None = None
    decided_at: datetime
    traceparent: str | None = None
    event: bytes


def delivery_id(tenant: str, user_id: str, event_id: str, channel: Channel, address_id: str) -> str:
    """The identity of a delivery, a lower-case UUID (version 5, RFC 9562).

    It takes in the id of the stored address, never the address, so it is no personal datum;
    the separator U+001F is not printable, so no part can hold it.
    """
    return str(uuid5(_DELIVERIES, "\x1f".join((tenant, user_id, event_id, channel, address_id))))
