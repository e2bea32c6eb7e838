"""The event: what services publish."""

import hashlib
import struct
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Literal, get_args

from pipeline.model import avro

Lane = Literal["urgent", "normal", "bulk"]
Channel = Literal["apns", "fcm", "webpush", "sms", "email"]
Value = str | int | float | bool | None

LANES: tuple[Lane, ...] = get_args(Lane)
CHANNELS: tuple[Channel, ...] = get_args(Channel)


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """Mirrors `schemas/event.avsc`, field by field; the meaning of each stands there."""

    event_id: str
    user_id: str
    tenant: str
    type: str
    priority: Lane = "normal"
    created_at: datetime  # aware, UTC
    expires_at: datetime | None = None
    deliver_at: datetime | None = None
    channels: tuple[Channel, ...] | None = None
    collapse_key: str | None = None
    locale: str | None = None
    traceparent: str | None = None
    data: Mapping[str, Value] = field(default_factory=dict[str, Value])

    @property
    def key(self) -> bytes:
        """The record key on every topic."""
        return user_key(self.tenant, self.user_id)

    @property
    def content(self) -> bytes:
        """8 bytes that stand for what the recipient would see: the same id with others is another event.

        Times, lane and trace context are left out: who publishes again after a crash computes them
        anew, and that is a duplicate.
        """
        return content(self.type, self.channels, self.collapse_key, self.locale, self.data)


def content(
    type: str,
    channels: tuple[Channel, ...] | None,
    collapse_key: str | None,
    locale: str | None,
    data: Mapping[str, Value],
) -> bytes:
    """`Event.content` of the values that it takes in: of their Avro encoding, the variables sorted by name."""
    try:
        named = b"\0" if channels is None else b"\2" + b"".join(map(avro.text, channels)) + b"\0"
        seen = b"".join(
            (
                avro.text(type),
                named,
                *(b"\0" if text is None else avro.some(avro.text(text)) for text in (collapse_key, locale)),
                avro.long(len(data)),
                *(part for name in sorted(data) for part in (avro.text(name), _encoded(data[name]))),
            )
        )
    except (
        TypeError,
        ValueError,
        OverflowError,
    ):  # no Unicode: no record holds it, but whoever asks gets an answer
        seen = repr((type, channels, collapse_key, locale, sorted(data.items()))).encode("utf-8", "replace")
    return hashlib.blake2b(seen, digest_size=8).digest()


def _encoded(value: Value) -> bytes:
    """A variable as the schema's union ["null", "boolean", "long", "double", "string"]."""
    if value is None:
        return b"\0"
    if isinstance(value, bool):
        return b"\2\1" if value else b"\2\0"
    if isinstance(value, int):
        return b"\4" + avro.long(value)
    if isinstance(value, float):
        return b"\6" + _DOUBLE.pack(value)
    return b"\x08" + avro.text(value)


_DOUBLE = struct.Struct("<d")


def user_key(tenant: str, user_id: str) -> bytes:
    """The key that brings all records of one user into one partition.

    A tenant holds no '/', so the key is unambiguous.
    """
    return f"{tenant}/{user_id}".encode()
