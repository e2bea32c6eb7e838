"""The delivery: one message to one address, carried from the router to a sender."""

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Any, NamedTuple
from uuid import UUID

from pipeline.model.event import Channel, Lane

# Fixed for ever: another value would give every delivery of a replay a new identity.
_DELIVERIES = hashlib.sha1(UUID("6f1a3c52-6f0e-5c0e-9d0a-0b7e3f2d9a41").bytes, usedforsecurity=False)


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


class Owner(NamedTuple):
    """Whose a delivery is."""

    tenant: str
    user_id: str
    event_id: str
    channel: Channel


def delivery_id(tenant: str, user_id: str, event_id: str, channel: Channel, address_id: str) -> str:
    """The identity of a delivery, a lower-case UUID (version 5, RFC 9562).

    It takes in the id of the stored address, never the address, so it is no personal datum;
    the separator U+001F is not printable, so no part can hold it.
    """
    (id,) = delivery_ids(tenant, user_id, event_id, (place(channel, address_id),))
    return id


def place(channel: Channel, address_id: str) -> bytes:
    """The part of a delivery's identity that is the address's."""
    return f"\x1f{channel}\x1f{address_id}".encode()


def delivery_ids(tenant: str, user_id: str, event_id: str, places: Iterable[bytes]) -> list[str]:
    """The identities of an event's deliveries. `uuid5` for each would take four times as long."""
    event = _DELIVERIES.copy()
    event.update(f"{tenant}\x1f{user_id}\x1f{event_id}".encode())
    return [_id(event.copy(), place) for place in places]


def _id(digest: Any, place: bytes) -> str:
    digest.update(place)
    hex: str = digest.hexdigest()
    return f"{hex[:8]}-{hex[8:12]}-5{hex[13:16]}-{_VARIANT[hex[16]]}{hex[17:20]}-{hex[20:32]}"


_VARIANT = {digit: "89ab"[int(digit, 16) & 3] for digit in "0123456789abcdef"}
