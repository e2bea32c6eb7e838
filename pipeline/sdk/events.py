"""Making an event: its identity, its time, its trace."""

import secrets
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from uuid import UUID

from opentelemetry import trace

from pipeline.model.catalogue import Catalogue
from pipeline.model.event import Channel, Event, Lane, Value
from pipeline.model.moment import ms
from pipeline.observe import span


def uuid7(now: datetime, chance: int) -> UUID:
    """A UUID of version 7 (RFC 9562, 5.7): 48 bits of milliseconds, then 74 bits of chance."""
    milliseconds = ms(now)
    high, low = chance >> 62 & 0xFFF, chance & (1 << 62) - 1
    return UUID(int=milliseconds << 80 | 0x7 << 76 | high << 64 | 0b10 << 62 | low)


def new_event(  # noqa: PLR0913  # the fields of an event, all by name
    type: str,
    *,
    tenant: str,
    user_id: str,
    data: Mapping[str, Value],
    event_id: str | None = None,
    priority: Lane | None = None,
    catalogue: Catalogue | None = None,
    created_at: datetime | None = None,
    expires_at: datetime | None = None,
    deliver_at: datetime | None = None,
    channels: Sequence[Channel] | None = None,
    collapse_key: str | None = None,
    locale: str | None = None,
    traceparent: str | None = None,
) -> Event:
    """An event with what is missing filled in: a new id (UUID version 7), now, the current trace.

    With the `catalogue` its type's lane is taken when no priority is given. Make the event once and keep it over your own retries: its id is what makes them harmless. Better
    still is an id of yours, such as "order-17/shipped".
    """
    now = created_at or datetime.now(UTC)  # noqa: TID251  # the caller's edge: here time and chance come in
    with span("create event", type=type):
        created_in = traceparent or _current_trace()
    return Event(
        event_id=event_id or str(uuid7(now, secrets.randbits(74))),
        user_id=user_id,
        tenant=tenant,
        type=type,
        priority=priority or _lane(type, catalogue),
        created_at=now,
        expires_at=expires_at,
        deliver_at=deliver_at,
        channels=None if channels is None else tuple(channels),
        collapse_key=collapse_key,
        locale=locale,
        traceparent=created_in,
        data=dict(data),
    )


def _lane(type: str, catalogue: Catalogue | None) -> Lane:
    """The lane that the catalogue gives the type; without one, normal."""
    kind = (catalogue or {}).get(type)
    return kind.lane if kind else "normal"


def _current_trace() -> str | None:
    """The caller's span as a W3C traceparent, None outside of one."""
    span = trace.get_current_span().get_span_context()
    if not span.is_valid:
        return None
    return f"00-{span.trace_id:032x}-{span.span_id:016x}-{span.trace_flags:02x}"
