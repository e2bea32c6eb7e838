"""Reads out of a letter's bytes what a replay decides by, and numbers the attempt anew within them.

Avro is positional: the fields before `attempt` are read, the place of the number is noted, and the rest
is read; so a replay passes the bytes on as they came, but for that one number, without encoding them.
"""

import io
from collections.abc import Mapping
from functools import cache
from typing import Any, NamedTuple

from fastavro import parse_schema, schemaless_reader

from pipeline.adapters.wire.codec import Schema, SchemaIds, Wire
from pipeline.adapters.wire.frame import DAMAGE, HEAD, MAGIC
from pipeline.model import avro
from pipeline.model.dead import Letter
from pipeline.model.errors import Unreadable
from pipeline.model.event import CHANNELS, LANES, Event
from pipeline.model.hold import Hold
from pipeline.model.moment import ms
from pipeline.model.replay import Kind, Sketch
from pipeline.model.topics import DEAD

try:
    from pipeline.adapters.wire.native.scan import scan
except ImportError:  # there was no C compiler when it was installed
    scan = None

# Whose fields `scan` reads, by position.
LAYOUT = (
    "delivery_id", "event_id", "user_id", "tenant", "type", "category", "channel", "lane", "provider",
    "address_id", "address", "locale", "template_version", "attempt", "first_attempt_at", "not_before",
    "expires_at", "collapse_key", "required", "profile_version", "decided_at", "traceparent", "event",
)  # fmt: skip
_KINDS: Mapping[str, Kind] = {
    "deliver": "delivery",
    "retry": "delivery",
    "events": "event",
    "holds": "hold",
    "released": "hold",
}


class _Halves(NamedTuple):
    before: Schema  # the fields before `attempt`
    rest: Schema


class Sketcher:
    """Knows the schemas of deliveries and events."""

    def __init__(self, ids: SchemaIds) -> None:
        self._ids = ids
        self._wire = Wire(ids)
        self._halves: dict[int, _Halves] = {}
        own = ids.write_id("delivery")
        names = [field["name"] for field in ids.schema(own)["fields"]]
        self._scanned = own if scan is not None and names == list(LAYOUT) else -1

    def sketch(self, letter: Letter) -> Sketch:
        """What the letter says. Raises Unreadable, also for a record that is never sent again."""
        match kind_of(letter.origin):
            case "delivery":
                return self._delivery(letter.value)
            case "event":
                return self._event(letter.value)
            case "hold" if letter.topic != DEAD:
                return self._hold(letter.value)
            case _:
                raise Unreadable(f"a record of {letter.origin}: only deliveries and events are sent again")

    def event(self, sketch: Sketch) -> Event:
        """The event that it is about. Raises Unreadable."""
        return self._wire.decode(Event, sketch.event)

    @staticmethod
    def renumbered(value: bytes, sketch: Sketch, attempt: int) -> bytes:
        """The bytes of a delivery with another number of attempt. Raises Unreadable for bytes that Avro does not write."""
        old, new = avro.long(sketch.attempt), avro.long(attempt)
        end = sketch.cut + len(old)
        if value[sketch.cut : end] != old:
            raise Unreadable("the number of the attempt is not in Avro's shortest form")
        return value[: sketch.cut] + new + value[end:]

    def _delivery(self, value: bytes) -> Sketch:
        if len(value) < HEAD.size or value[0] != MAGIC:
            raise Unreadable("not in the Confluent wire format")
        _, id = HEAD.unpack_from(value)
        quick = scan(value) if scan is not None and id == self._scanned else None
        return quick or self.by_schema(value)

    def by_schema(self, value: bytes) -> Sketch:
        """What the bytes of a delivery say, by the schema that wrote them. Raises Unreadable."""
        _, id = HEAD.unpack_from(value)
        halves = self._halves.get(id) or self._cut(id)
        buffer = io.BytesIO(value)
        buffer.seek(HEAD.size)
        try:
            before: Any = schemaless_reader(buffer, halves.before, None)  # pyright: ignore[reportArgumentType]
            cut = buffer.tell()
            rest: Any = schemaless_reader(buffer, halves.rest, None)  # pyright: ignore[reportArgumentType]
        except DAMAGE as damage:
            raise Unreadable(f"damaged Delivery: {type(damage).__name__}") from damage
        if buffer.tell() != len(value):
            raise Unreadable(f"{len(value) - buffer.tell()} bytes are left over after the Delivery")
        return _sketch(before, rest, cut)

    def _event(self, value: bytes) -> Sketch:
        event = self._wire.decode(Event, value)
        ends = None if event.expires_at is None else ms(event.expires_at)
        return Sketch(
            "event", "", event.event_id, event.user_id, event.tenant, event.type, "", "", event.priority, "", None,
            0, ends, event.collapse_key, False, value, 0,
        )  # fmt: skip

    def _hold(self, value: bytes) -> Sketch:
        hold = self._wire.decode(Hold, value)
        held = f"{hold.source_topic}/{hold.source_partition}/{hold.source_offset}"
        ends = ms(hold.expires_at)
        return self._event(hold.event)._replace(kind="hold", delivery_id=held, expires_at=ends)

    def _cut(self, id: int) -> _Halves:
        schema = self._ids.schema(id)
        if schema["name"] != "everpost.Delivery":
            raise Unreadable(f"schema id {id} is {schema['name']}, not everpost.Delivery")
        names = [field["name"] for field in schema["fields"]]
        at = names.index("attempt")
        fields = [_plain(field) for field in schema["fields"]]
        halves = _Halves(_record("Before", fields[:at]), _record("Rest", fields[at:]))
        self._halves[id] = halves
        return halves


@cache
def kind_of(origin: str) -> Kind:
    """What the records of a topic are to a replay."""
    _, _, rest = origin.partition(".")
    return _KINDS.get(rest.partition(".")[0], "other")


def _sketch(before: Mapping[str, Any], rest: Mapping[str, Any], cut: int) -> Sketch:
    channel, lane = before["channel"], before["lane"]
    if channel not in CHANNELS or lane not in LANES:
        raise Unreadable(f"a delivery for {channel}, {lane}: there is no such topic")
    return Sketch(
        "delivery", before["delivery_id"], before["event_id"], before["user_id"], before["tenant"],
        before["type"], before["category"], channel, lane, before["address_id"], before["template_version"],
        rest["attempt"], rest["expires_at"], rest["collapse_key"], rest["required"], rest["event"], cut,
    )  # fmt: skip


def _record(name: str, fields: list[dict[str, Any]]) -> Schema:
    found = parse_schema({"type": "record", "name": name, "fields": fields})
    assert isinstance(found, dict)
    return found


def _plain(field: Mapping[str, Any]) -> dict[str, Any]:
    """The field with its times as numbers: making a datetime of each takes as long as reading ten fields."""
    type = field["type"]
    plain = [_number(one) for one in type] if isinstance(type, list) else _number(type)
    return {"name": field["name"], "type": plain}


def _number(type: Any) -> Any:
    return type["type"] if isinstance(type, dict) and "logicalType" in type else type
