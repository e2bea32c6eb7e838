"""Records to bytes and back: 0x00, schema id as 4 bytes big-endian, Avro datum (Confluent wire format).

Which id stands for which schema is the business of `ids` (lock file) and `registry`; the bytes are the
same either way. fastavro is used directly: Confluent's deserialiser takes four times as long. What is ordinary
goes the compiled way before (`flat`), which takes a fifth.
"""

import io
from collections.abc import Callable, Mapping
from dataclasses import fields
from operator import attrgetter
from typing import Any, NamedTuple, Protocol

from fastavro import schemaless_reader, schemaless_writer

from pipeline.adapters.wire.flat import Flat
from pipeline.adapters.wire.frame import DAMAGE, HEAD, MAGIC
from pipeline.adapters.wire.glance import Glancer
from pipeline.model.decision import ChannelVerdict, Decision, Gate, Planned
from pipeline.model.delivery import Delivery
from pipeline.model.engagement import Engagement
from pipeline.model.errors import Unreadable
from pipeline.model.event import Event
from pipeline.model.hold import Hold
from pipeline.model.outcome import Outcome
from pipeline.ports import Glance, R, Record

Schema = Mapping[str, Any]  # an Avro record schema as fastavro parses it


class SchemaIds(Protocol):
    """Which number stands for which schema."""

    def write_id(self, name: str) -> int:
        """The id of the current schema of `event`, `decision`, … Raises DependencyDown."""
        ...

    def schema(self, id: int) -> Schema:
        """The parsed writer schema. Raises Unreadable (unknown id) or DependencyDown."""
        ...


def _plain(cls: type[Any]) -> Callable[[Any], dict[str, Any]]:
    names = tuple(field.name for field in fields(cls))
    get = attrgetter(*names)
    return lambda record: dict(zip(names, get(record), strict=True))


_parts = {cls: _plain(cls) for cls in (Gate, ChannelVerdict, Planned)}


def _decision_in(values: dict[str, Any]) -> Decision:
    values["gates"] = tuple(Gate(**gate) for gate in values["gates"])
    values["channels"] = tuple(ChannelVerdict(**channel) for channel in values["channels"])
    values["deliveries"] = tuple(Planned(**planned) for planned in values["deliveries"])
    return Decision(**values)


def _event_in(values: dict[str, Any]) -> Event:
    if values["channels"] is not None:
        values["channels"] = tuple(values["channels"])
    return Event(**values)


def _decision_out(decision: Decision) -> dict[str, Any]:
    values = _flat[Decision](decision)
    for name, cls in (("gates", Gate), ("channels", ChannelVerdict), ("deliveries", Planned)):
        values[name] = [_parts[cls](part) for part in values[name]]
    return values


_flat: dict[type[Record], Callable[[Any], dict[str, Any]]] = {
    cls: _plain(cls) for cls in (Event, Decision, Delivery, Outcome, Engagement, Hold)
}
_out: dict[type[Record], Callable[[Any], dict[str, Any]]] = {**_flat, Decision: _decision_out}
_in: dict[type[Record], Callable[[dict[str, Any]], Any]] = {
    Event: _event_in,
    Decision: _decision_in,
    Delivery: lambda values: Delivery(**values),
    Outcome: lambda values: Outcome(**values),
    Engagement: lambda values: Engagement(**values),
    Hold: lambda values: Hold(**values),
}


class _Current(NamedTuple):
    """What a class is written with."""

    head: bytes
    id: int
    schema: Schema
    flat: Flat


class Wire:
    """Encodes and decodes the records of everpost."""

    def __init__(self, ids: SchemaIds) -> None:
        self._ids = ids
        self._current: dict[type[Record], _Current] = {}
        self._glance: Glancer | None = None

    def encode(self, record: Record) -> bytes:
        """The bytes of a record. Raises DependencyDown when its id is not known yet."""
        head, _, schema, flat = self._writer(type(record))
        if (quick := flat.write(record)) is not None:
            return quick
        buffer = io.BytesIO()
        buffer.write(head)
        values = _out[type(record)](record)
        # Without the flag a tuple of channels in a union is read as (branch, value).
        schemaless_writer(buffer, schema, values, disable_tuple_notation=True)  # pyright: ignore[reportArgumentType]
        return buffer.getvalue()

    def decode(self, cls: type[R], value: bytes | None) -> R:
        """The record in the bytes.

        Raises Unreadable for a wrong magic byte, an unknown or another record's schema id, and damaged
        or left-over bytes; DependencyDown when the registry must be asked and does not answer.
        """
        _, own_id, own, flat = self._writer(cls)
        if value is not None and (quick := flat.read(value)) is not None:
            return quick
        if value is None or len(value) < HEAD.size:
            raise Unreadable("shorter than the 5 bytes that every record begins with")
        magic, id = HEAD.unpack_from(value)
        if magic != MAGIC:
            raise Unreadable(f"magic byte is {magic:#04x}, not 0x00: not in the Confluent wire format")
        writer = own if id == own_id else self._foreign(id, own)
        buffer = io.BytesIO(value)
        buffer.seek(HEAD.size)
        try:
            values = schemaless_reader(buffer, writer, None if writer is own else own)  # pyright: ignore[reportArgumentType]
            record = _in[cls](values)  # pyright: ignore[reportArgumentType]
        except DAMAGE as damage:
            raise Unreadable(f"damaged {cls.__name__}: {type(damage).__name__}") from damage
        if buffer.tell() != len(value):
            raise Unreadable(f"{len(value) - buffer.tell()} bytes are left over after the {cls.__name__}")
        return record

    def head(self, cls: type[Record]) -> bytes:
        """What the bytes of such a record begin with: magic byte and schema id. Raises DependencyDown."""
        return self._writer(cls)[0]

    def glance(self, value: bytes, owner: bytes) -> Glance | None:
        """What stands in an ordinary event of `owner`; None for everything else. Raises DependencyDown."""
        if self._glance is None:
            head, _, schema, _ = self._writer(Event)
            self._glance = Glancer(head, schema)
        return self._glance(value, owner)

    def ready(self) -> None:
        """Ask for every id that is written, so that a missing one shows at the start.

        Raises DependencyDown, or ConfigurationError when the registry does not have a schema.
        """
        for cls in _in:
            self._writer(cls)

    def _foreign(self, id: int, own: Schema) -> Schema:
        writer = self._ids.schema(id)
        if writer["name"] != own["name"]:
            raise Unreadable(f"schema id {id} is {writer['name']}, not {own['name']}")
        return writer

    def _writer(self, cls: type[Record]) -> _Current:
        found = self._current.get(cls)
        if found is None:
            id = self._ids.write_id(cls.__name__.lower())
            head, schema = HEAD.pack(MAGIC, id), self._ids.schema(id)
            found = self._current[cls] = _Current(head, id, schema, Flat(cls, head, schema))
        return found
