"""FULL_TRANSITIVE compatibility, told so that whoever changed a schema knows what to do.

Every released version is held against the current one, both ways: what was ever written must stay
readable, and who has not been updated must read what is written now. Apache Avro's own checker judges
every type; the walk around it knows the field, which the checker's answers lose. Three rules are ours,
because Avro lets these changes pass and the values change their meaning: a symbol never goes, although
a reader would put the enum's default in its place; a logical type stays (milliseconds would be read as
microseconds); a default stays (old records would begin to say something else).
"""

import json
from collections.abc import Iterator, Mapping
from typing import Any, cast

from avro.compatibility import ReaderWriterCompatibilityChecker, SchemaCompatibilityType
from avro.schema import (
    ArraySchema,
    EnumSchema,
    Field,
    MapSchema,
    NamedSchema,
    RecordSchema,
    Schema,
    UnionSchema,
    parse,
)

Problems = Iterator[str]


def problems(
    name: str, current: Mapping[str, Any], released: Mapping[int, Mapping[str, Any]]
) -> tuple[str, ...]:
    """Why `current` may not follow these versions, a sentence each; empty when it may.

    `released` is every earlier version by its number.
    """
    new = parse(json.dumps(current))
    found = (
        sentence
        for version, earlier in released.items()
        for sentence in _Walk(version).types(name, parse(json.dumps(earlier)), new)
    )
    return tuple(dict.fromkeys(found))


class _Walk:
    """One earlier version (old) against the current schema (new), field by field."""

    def __init__(self, version: int) -> None:
        self._version = version

    def types(self, path: str, old: Schema, new: Schema) -> Problems:
        """What differs between two types at the same place."""
        match old, new:
            case (NamedSchema(), NamedSchema()) if old.fullname != new.fullname:
                yield (
                    f"{path}: its type was named {old.fullname} in version {self._version} and is {new.fullname} "
                    "now; readers go by the name. Give it the old name back."
                )
            case (RecordSchema(), RecordSchema()):
                yield from self._fields(path, old, new)
            case (ArraySchema(), ArraySchema()):
                yield from self.types(f"{path}[]", _schema(old.items), _schema(new.items))
            case (MapSchema(), MapSchema()):
                yield from self.types(f"{path}{{}}", _schema(old.values), _schema(new.values))
            case (EnumSchema(), EnumSchema()):
                yield from self._symbols(path, old, new)
            case _:
                yield from self._kinds(path, old, new)

    def _fields(self, path: str, old: RecordSchema, new: RecordSchema) -> Problems:
        before, now = _by_name(old), _by_name(new)
        for name, field in before.items():
            if name in now:
                yield from self.types(f"{path}.{name}", field.type, now[name].type)
                yield from self._defaults(f"{path}.{name}", field, now[name])
            elif not field.has_default:
                yield (
                    f"{path}.{name} is gone, and version {self._version} gave it no default: who still reads "
                    f"with version {self._version} fails on every new record. Put the field back; one may go "
                    "only if it has a default in every released version."
                )
        for name, field in now.items():
            if name not in before and not field.has_default:
                yield (
                    f"{path}.{name} is new and has no default: the records of version {self._version}, which "
                    "stay readable for ever, have no value for it. Give it a default; for a field that may be "
                    'unknown, "type": ["null", …] with "default": null.'
                )

    def _defaults(self, path: str, old: Field, new: Field) -> Problems:
        if old.has_default and not new.has_default:
            yield (
                f"{path} had a default in version {self._version} and has none now: it could never be removed, "
                "and a version that lacked it could not be read. Put the default back."
            )
        elif old.has_default and old.default != new.default:
            yield (
                f"{path}: its default was {json.dumps(old.default)} in version {self._version} and is "
                f"{json.dumps(new.default)} now: a record without the field would mean one thing to an old reader "
                "and another to a new one. Keep the default, or add a field with another name."
            )

    def _symbols(self, path: str, old: EnumSchema, new: EnumSchema) -> Problems:
        gone = [symbol for symbol in old.symbols if symbol not in new.symbols]
        if gone:
            yield (
                f"{path}: symbol {', '.join(gone)} of version {self._version} is gone: records that hold it would "
                f"{_otherwise(new)}. Put it back; symbols are only added, and to rename one is to remove it."
            )
        added = [symbol for symbol in new.symbols if symbol not in old.symbols]
        if added and not _can_read(old, new):
            yield (
                f"{path}: symbol {', '.join(added)} is new, and the enum has no default in version {self._version}: "
                f"who still reads with version {self._version} fails on it. Use a string, or add a new field."
            )

    def _kinds(self, path: str, old: Schema, new: Schema) -> Problems:
        before, now = _named(old), _named(new)
        if not _can_read(new, old):
            yield (
                f"{path} was {before} in version {self._version} and is {now} now: the records of version "
                f"{self._version} could not be read any more. {_KEEP}"
            )
        elif not _can_read(old, new):
            yield (
                f"{path} was {before} in version {self._version} and is {now} now: who still reads with version "
                f"{self._version} fails on it. {_KEEP}"
            )
        elif _meanings(old) != _meanings(new):
            yield (
                f"{path}: its logical type was {_meant(old)} in version {self._version} and is {_meant(new)} now: "
                f"the same number would mean something else. {_KEEP}"
            )
        elif isinstance(old, UnionSchema) and isinstance(new, UnionSchema):
            branches = {_kind(branch): branch for branch in new.schemas}
            for branch in old.schemas:
                if (other := branches.get(_kind(branch))) is not None:
                    yield from self.types(path, branch, other)


_KEEP = "Keep the type, and add a field with another name and a default beside it."


def _schema(part: object) -> Schema:
    """Avro keeps a schema's parts in properties without a type."""
    assert isinstance(part, Schema)
    return part


def _can_read(reader: Schema, writer: Schema) -> bool:
    answer = ReaderWriterCompatibilityChecker().get_compatibility(reader, writer)
    return answer.compatibility is SchemaCompatibilityType.compatible


def _by_name(record: RecordSchema) -> Mapping[str, Field]:
    return {field.name: field for field in cast("list[Field]", record.fields)}


def _otherwise(enum: EnumSchema) -> str:
    default = enum.props.get("default")
    return (
        f"be read as {default}, the enum's default"
        if default
        else "be unreadable, for the enum has no default"
    )


def _kind(schema: Schema) -> str:
    return cast("str", schema.fullname) if isinstance(schema, NamedSchema) else schema.type


def _named(schema: Schema) -> str:
    if isinstance(schema, UnionSchema):
        return " or ".join(map(_named, schema.schemas))
    return _kind(schema)


def _meanings(schema: Schema) -> tuple[str, ...]:
    """The logical types at one place, as they were written, sorted."""
    branches = schema.schemas if isinstance(schema, UnionSchema) else [schema]
    return tuple(sorted(str(branch.props.get("logicalType") or "") for branch in branches))


def _meant(schema: Schema) -> str:
    return ", ".join(filter(None, _meanings(schema))) or "none"
