"""The deliveries that we write ourselves, read by position: a third of the time of the general way.

Only what is usual: whatever is longer, optional in another way, or damaged gives None, and the general way
(`sketch`) says what it is. A test holds the two against each other.
"""

from pipeline.adapters.wire.frame import HEAD
from pipeline.model.event import CHANNELS, LANES
from pipeline.model.replay import Sketch

LAYOUT = (
    "delivery_id", "event_id", "user_id", "tenant", "type", "category", "channel", "lane", "provider",
    "address_id", "address", "locale", "template_version", "attempt", "first_attempt_at", "not_before",
    "expires_at", "collapse_key", "required", "profile_version", "decided_at", "traceparent", "event",
)  # fmt: skip


def scan(value: bytes) -> Sketch | None:
    """What a delivery of `LAYOUT` says; None when it is unusual."""
    try:
        return _scan(value)
    except (IndexError, UnicodeDecodeError):
        return None


def _scan(value: bytes) -> Sketch | None:
    at, texts = _texts(value, HEAD.size, 8)
    if value[at]:
        return None  # a provider is named
    at, more = _texts(value, at + 1, 3)
    version, attempt, cut = value[at], value[at + 1], at + 1
    if (version | attempt) & 129:
        return None  # negative, or of more than one byte
    at = _skip_time(value, _skip_time(value, at + 2))
    at, expires_at = _time(value, at)
    at, collapse_key = _maybe(value, at)
    required, at = value[at], _skip_time(value, at + 1)
    at = _skip_long(value, at)
    at, _ = _maybe(value, at)
    at, size = _size(value, at)
    delivery_id, event_id, user_id, tenant, type, category, channel, lane = texts
    if at + size != len(value) or required > 1 or channel not in CHANNELS or lane not in LANES:
        return None
    return Sketch(
        "delivery", delivery_id, event_id, user_id, tenant, type, category, channel, lane, more[0],
        version >> 1, attempt >> 1, expires_at, collapse_key, bool(required), value[at:], cut,
    )  # fmt: skip


def _texts(value: bytes, at: int, count: int) -> tuple[int, list[str]]:
    found: list[str] = []
    for _ in range(count):
        size = value[at]
        at += 1
        if size & 129:
            at, size = _size(value, at - 1)
            size <<= 1
        end = at + (size >> 1)
        found.append(value[at:end].decode())
        at = end
    return at, found


def _size(value: bytes, at: int) -> tuple[int, int]:
    """A length of at most three bytes; IndexError for what is none."""
    size = value[at]
    if size > 127:
        size += (value[at + 1] << 7) - 128
        at += 1
        if value[at] > 127:
            size += (value[at + 1] << 14) - (128 << 7)
            at += 1
    if size & 1 or value[at] > 127:
        raise IndexError
    return at + 1, size >> 1


def _maybe(value: bytes, at: int) -> tuple[int, str | None]:
    """A text or null."""
    if not value[at]:
        return at + 1, None
    if value[at] != 2:
        raise IndexError
    at, (text,) = _texts(value, at + 1, 1)
    return at, text


def _skip_long(value: bytes, at: int) -> int:
    while value[at] > 127:
        at += 1
    return at + 1


def _skip_time(value: bytes, at: int) -> int:
    """A long or null."""
    if not value[at]:
        return at + 1
    if value[at] != 2:
        raise IndexError
    return _skip_long(value, at + 1)


def _time(value: bytes, at: int) -> tuple[int, int | None]:
    """A long or null, and what it says."""
    end = _skip_time(value, at)
    if end == at + 1:
        return end, None
    number = 0
    for byte in reversed(value[at + 1 : end]):
        number = number << 7 | byte & 127
    return end, number >> 1 ^ -(number & 1)
