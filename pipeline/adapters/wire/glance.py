"""A first look at the bytes of an event: what the router needs of an ordinary one, in a quarter of the time.

Reading all thirteen fields into an event takes 11 µs, this 4. It knows the current schema alone, checks
when it is made that this is the one it knows, and gives up (None) where it would have to be more than
simple: then the record is decoded as ever, and only there is anything refused.
"""

import io
from collections.abc import Mapping
from typing import Any, cast

from fastavro import parse_schema, schemaless_reader

from pipeline.adapters.wire.frame import DAMAGE, HEAD
from pipeline.model import avro
from pipeline.model.event import Value
from pipeline.ports import Glance

_FIELDS = (
    *("event_id", "user_id", "tenant", "type", "priority", "created_at", "expires_at", "deliver_at"),
    *("channels", "collapse_key", "locale", "traceparent", "data"),
)
_NULL, _SOME = 0, 2
_BODY = HEAD.size


class Glancer:
    """Looks at events whose value begins with `head`."""

    def __init__(self, head: bytes, schema: Mapping[str, Any]) -> None:
        names = tuple(field["name"] for field in schema["fields"])
        assert names == _FIELDS, f"event.avsc has changed to {names}: change what is read here"
        self._head = head
        self._data = parse_schema(schema["fields"][-1]["type"])

    def __call__(self, value: bytes, owner: bytes) -> Glance | None:
        """What stands in the value, if its user_id and tenant are encoded as `owner`, in this order.

        None when they are not, or when anything in it is out of the ordinary: another schema, a
        deliver_at or channels of its own, damage, left-over bytes.
        """
        try:
            return self._look(value, owner)
        except DAMAGE:
            return None  # damage: its name is found by the one who decodes it in full

    def _look(self, value: bytes, owner: bytes) -> Glance | None:
        if not value.startswith(self._head):
            return None
        begin = avro.end_of_text(value, _BODY)
        if not value.startswith(owner, begin):
            return None
        kind = begin + len(owner)
        at = avro.end_of_text(value, kind) + 1  # the lane is one byte
        created, end = avro.read_long(value, at)
        expires, end = _maybe_long(value, end)
        if value[end] != _NULL or value[end + 1] != _NULL:  # deliver_at, channels
            return None
        collapse, end = _maybe_text(value, end + 2)
        locale, end = _maybe_text(value, end)
        trace, end = _maybe_text(value, end)
        buffer = io.BytesIO(value)
        buffer.seek(end)
        data = cast("Mapping[str, Value]", schemaless_reader(buffer, self._data, None))
        if buffer.tell() != len(value):
            return None
        event_id = value[_BODY:begin]
        return Glance(
            event_id, avro.words(event_id), value[kind:at], created, expires, collapse, locale, trace, data
        )


def _maybe_long(value: bytes, at: int) -> tuple[int | None, int]:
    if value[at] == _NULL:
        return None, at + 1
    if value[at] != _SOME:
        raise ValueError("no such branch")
    return avro.read_long(value, at + 1)


def _maybe_text(value: bytes, at: int) -> tuple[bytes | None, int]:
    """The text as it is encoded."""
    if value[at] == _NULL:
        return None, at + 1
    if value[at] != _SOME:
        raise ValueError("no such branch")
    end = avro.end_of_text(value, at + 1)
    found = value[at + 1 : end]
    avro.words(found)  # what is no UTF-8 is no text
    return found, end
