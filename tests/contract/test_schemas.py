"""The contract of the records: what was released stays readable, and a change that breaks a reader is told."""

import io
import json
import shutil
from collections.abc import Callable, Iterator, Mapping
from dataclasses import MISSING, Field, fields
from datetime import datetime
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

import pytest
from fastavro import schemaless_reader, schemaless_writer
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.adapters.wire import compatibility
from pipeline.adapters.wire.codec import Wire
from pipeline.adapters.wire.ids import SCHEMAS, LockFile, Release, parsed, releases, source
from pipeline.adapters.wire.release import NAMES, check, release
from pipeline.model.decision import ChannelVerdict, Gate, Planned
from pipeline.model.errors import ConfigurationError
from pipeline.ports import Record
from tests.support.golden import RECORDS, Example, examples

Json = dict[str, Any]

LOCK = releases()
WIRE = Wire(LockFile())
CLASSES: Mapping[str, type[Any]] = {
    each.__name__: each for each in (*get_args(Record), Gate, ChannelVerdict, Planned)
}
GOLDEN = tuple(examples())


def current(name: str) -> Json:
    """The schema that people edit."""
    return json.loads((SCHEMAS / f"{name}.avsc").read_text(encoding="utf-8"))


def field(schema: Json, name: str) -> Json:
    """One field of a record schema."""
    return next(each for each in schema["fields"] if each["name"] == name)


@pytest.fixture
def schemas(tmp_path: Path) -> Path:
    """A copy of the schemas' directory, to be changed."""
    return shutil.copytree(SCHEMAS, tmp_path / "schemas")


def edit(directory: Path, name: str, change: Callable[[Json], object]) -> None:
    """Change a schema as a person would."""
    path = directory / f"{name}.avsc"
    schema = json.loads(path.read_text(encoding="utf-8"))
    change(schema)
    path.write_text(json.dumps(schema, indent=2), encoding="utf-8")


def test_the_schemas_are_as_they_were_released() -> None:
    """What services write is what people read in schemas/, and it breaks no earlier reader."""
    assert check() == ()


def test_ids_and_versions_count_up() -> None:
    """Ids count over all names and versions within a name, both from 1: a new registry counts the same."""
    assert [each.id for each in LOCK] == list(range(1, len(LOCK) + 1))
    for name in NAMES:
        versions = [each.version for each in LOCK if each.name == name]
        assert versions == list(range(1, len(versions) + 1))


# What must be refused: the schema, the change, and what the sentence says of it.
BAD: Mapping[str, tuple[str, Callable[[Json], object], str]] = {
    "a field without default is removed": (
        "event",
        lambda s: s["fields"].remove(field(s, "user_id")),
        r"event\.user_id is gone, and version 1 gave it no default: who still reads with version 1 fails",
    ),
    "a field of a part is removed": (
        "decision",
        lambda s: field(s, "gates")["type"]["items"]["fields"].pop(0),
        r"decision\.gates\[\]\.gate is gone",
    ),
    "a new field has no default": (
        "outcome",
        lambda s: s["fields"].append({"name": "region", "type": "string", "doc": "Where."}),
        r"outcome\.region is new and has no default: the records of version 1, .* have no value for it",
    ),
    "a type is changed": (
        "event",
        lambda s: field(s, "created_at").update(type="string"),
        r"event\.created_at was long in version 1 and is string now: the records of version 1 could not",
    ),
    "a type is widened": (
        "outcome",
        lambda s: field(s, "latency_ms").update(type="long"),
        r"outcome\.latency_ms was int in version 1 and is long now: who still reads with version 1 fails",
    ),
    "a field becomes optional": (
        "delivery",
        lambda s: field(s, "address").update(type=["null", "string"]),
        r"delivery\.address was string in version 1 and is null or string now: who still reads",
    ),
    "a kind of variable is dropped": (
        "event",
        lambda s: field(s, "data")["type"]["values"].remove("boolean"),
        r"event\.data\{\} was null or boolean or .* the records of version 1 could not be read",
    ),
    "a logical type is changed": (
        "event",
        lambda s: field(s, "expires_at")["type"][1].update(logicalType="timestamp-micros"),
        r"event\.expires_at: its logical type was timestamp-millis in version 1 and is timestamp-micros now",
    ),
    "a symbol is removed": (
        "event",
        lambda s: field(s, "priority")["type"]["symbols"].remove("bulk"),
        r"event\.priority: symbol bulk of version 1 is gone: .* be read as normal, the enum's default",
    ),
    "a symbol is renamed": (
        "engagement",
        lambda s: field(s, "kind")["type"].update(
            symbols=["unknown", "receipt", "bounce", "complaint", "open", "tap", "unsubscribe"]
        ),
        r"engagement\.kind: symbol click of version 1 is gone",
    ),
    "a named type is renamed": (
        "event",
        lambda s: field(s, "priority")["type"].update(name="Road"),
        r"event\.priority: its type was named everpost\.Lane in version 1 and is everpost\.Road now",
    ),
    "a default is changed": (
        "delivery",
        lambda s: field(s, "required").update(default=True),
        r"delivery\.required: its default was false in version 1 and is true now",
    ),
    "a default is removed": (
        "outcome",
        lambda s: field(s, "provider").pop("default"),
        r"outcome\.provider had a default in version 1 and has none now",
    ),
}


@pytest.mark.parametrize(("name", "change", "sentence"), BAD.values(), ids=BAD)
def test_a_change_that_breaks_a_reader_is_refused(
    schemas: Path, name: str, change: Callable[[Json], object], sentence: str
) -> None:
    """The sentence names the field and who breaks, and nothing is released."""
    edit(schemas, name, change)
    with pytest.raises(ConfigurationError, match=sentence):
        release(schemas)
    assert releases(schemas) == LOCK


def test_a_symbol_added_to_an_enum_without_default_is_refused() -> None:
    """Who reads with the old version would meet a symbol that it has no place for."""
    old = {"type": "enum", "name": "Kind", "symbols": ["a", "b"]}
    new = old | {"symbols": ["a", "b", "c"]}
    (sentence,) = compatibility.problems("kind", new, {1: old, 2: old})[:1]
    assert "symbol c is new, and the enum has no default in version 1" in sentence


def test_every_earlier_version_counts() -> None:
    """A change that the last version would bear is refused when an older one would not."""
    text = {"name": "text", "type": "string"}
    first: Json = {"type": "record", "name": "Note", "fields": [text]}
    second: Json = {"type": "record", "name": "Note", "fields": [text | {"default": ""}]}
    third: Json = {"type": "record", "name": "Note", "fields": []}
    assert compatibility.problems("note", third, {2: second}) == ()
    (sentence,) = compatibility.problems("note", third, {1: first, 2: second})
    assert "note.text is gone, and version 1 gave it no default" in sentence


def test_a_good_change_becomes_a_version(schemas: Path) -> None:
    """An optional field is released once, with the next id, and then it is what is written."""
    edit(
        schemas,
        "event",
        lambda s: s["fields"].append({"name": "x", "type": ["null", "string"], "default": None}),
    )
    edit(schemas, "outcome", lambda s: field(s, "code").update(doc="Better words."))
    assert [line.split()[0] for line in check(schemas)] == ["schemas/event.avsc"]
    (new,) = release(schemas)
    assert (new.id, new.name, new.version) == (len(LOCK) + 1, "event", 2)
    assert check(schemas) == ()
    assert release(schemas) == ()
    assert LockFile(schemas).write_id("event") == new.id


def test_a_released_file_that_was_touched_is_named(schemas: Path) -> None:
    """A release is on topics: even a changed default in it is found."""
    path = schemas / "released" / "delivery.1.avsc"
    path.write_text(
        path.read_text(encoding="utf-8").replace('"default": 1', '"default": 2'), encoding="utf-8"
    )
    assert any(
        line.startswith("schemas/released/delivery.1.avsc is not what was released")
        for line in check(schemas)
    )


def test_a_default_of_bytes_is_bytes() -> None:
    """JSON has no bytes: a default is text with a character each, and must not be handed out as text."""
    record: Json = {"type": "record", "name": "Note", "fields": []}
    note = record | {"fields": [{"name": "mark", "type": "bytes", "default": "\x00\xff"}]}
    assert schemaless_reader(io.BytesIO(), parsed(record), parsed(note)) == {"mark": b"\x00\xff"}


@pytest.mark.parametrize("text", ["{", '{"type": "record"}', '{"type": "no such type"}'])
def test_a_file_that_is_no_schema_is_named(schemas: Path, text: str) -> None:
    """A slip of the pen is told with the file's name, without a traceback."""
    (schemas / "event.avsc").write_text(text, encoding="utf-8")
    with pytest.raises(ConfigurationError, match=r"schemas/event\.avsc is no Avro schema"):
        check(schemas)


FIELDS = st.sampled_from([each["name"] for each in current("event")["fields"]])
TYPES = st.sampled_from(["string", "long", "bytes", ["null", "string"], {"type": "map", "values": "string"}])


@st.composite
def changed(draw: st.DrawFn) -> Json:
    """The event's schema after one to three changes of any kind."""
    schema = current("event")
    for n in range(draw(st.integers(1, 3))):
        names = [each["name"] for each in schema["fields"]]
        one = field(schema, draw(st.sampled_from(names)))
        match draw(st.sampled_from(["remove", "retype", "add", "default", "move"])):
            case "remove" if len(names) > 1:
                schema["fields"].remove(one)
            case "retype":
                one["type"] = draw(TYPES)
                one.pop("default", None)
            case "add":
                schema["fields"].append({"name": f"new_{n}", "type": ["null", "string"], "default": None})
            case "default":
                one.pop("default", None)
            case _:
                schema["fields"].remove(one)
                schema["fields"].insert(draw(st.integers(0, len(names) - 1)), one)
    return schema


@given(schema=changed())
@settings(max_examples=200)
def test_what_is_let_pass_is_read_both_ways(schema: Json) -> None:
    """Whatever change is let pass, the golden events are read with it, and what it writes is read without."""
    if compatibility.problems("event", schema, {1: source(LOCK[0])}):
        return
    old, new = parsed(source(LOCK[0])), parsed(schema)
    for example in (each for each in GOLDEN if each.name == "event" and each.version == 1):
        values: Any = schemaless_reader(io.BytesIO(example.bytes[5:]), old, new)
        written = io.BytesIO()
        schemaless_writer(written, new, values)
        back: Any = schemaless_reader(io.BytesIO(written.getvalue()), new, old)
        first: Any = schemaless_reader(io.BytesIO(example.bytes[5:]), old, None)
        assert {name: back[name] for name in back if name in values} == {
            name: first[name] for name in first if name in values
        }


def released(example: Example) -> Release:
    """The release that an example was written with."""
    return next(each for each in LOCK if (each.name, each.version) == (example.name, example.version))


def test_every_release_has_golden_records() -> None:
    """No version is without bytes that show what it wrote."""
    assert {released(example).label for example in GOLDEN} == {each.label for each in LOCK}


@pytest.mark.parametrize(
    "example", GOLDEN, ids=lambda example: f"{example.name}.{example.version} {example.about}"
)
def test_golden_records_are_read_for_ever(example: Example) -> None:
    """The bytes of every version give the record, and the last version still writes these bytes."""
    assert int.from_bytes(example.bytes[1:5]) == released(example).id
    assert WIRE.decode(RECORDS[example.name], example.bytes) == example.record
    if released(example).id == LockFile().write_id(example.name):
        assert WIRE.encode(example.record) == example.bytes


def nested(schema: Any) -> Iterator[Json]:
    """Every record schema within a schema, itself included."""
    if isinstance(schema, list):
        for branch in schema:
            yield from nested(branch)
    elif isinstance(schema, dict):
        if schema["type"] == "record":
            yield schema
            for each in schema["fields"]:
                yield from nested(each["type"])
        else:
            yield from nested(schema.get("items", schema.get("values")))


RECORD_SCHEMAS = [schema for name in NAMES for schema in nested(current(name))]


@pytest.mark.parametrize("schema", RECORD_SCHEMAS, ids=[each["name"] for each in RECORD_SCHEMAS])
def test_classes_mirror_schemas(schema: Json) -> None:
    """Names, order, types, nullability, symbols and defaults of a class are those of its schema."""
    cls = CLASSES[schema["name"]]
    hints = get_type_hints(cls)
    assert [each.name for each in fields(cls)] == [each["name"] for each in schema["fields"]]
    for own, each in zip(fields(cls), schema["fields"], strict=True):
        assert mirrors(hints[own.name], each["type"]), each["name"]
        if "default" in each:
            assert default(own) == each["default"], each["name"]
        elif default(own) is not MISSING:  # for callers; then the enum says the same to readers
            assert default(own) == each["type"]["default"], each["name"]


def default(own: Field[Any]) -> Any:
    """A field's default, as JSON has it."""
    value = own.default if own.default_factory is MISSING else own.default_factory()
    match value:
        case tuple():
            return list(value)
        case bytes():
            return value.decode("latin-1")
        case _:
            return value


_SCALARS: Mapping[str, type[Any]] = {
    "null": NoneType,
    "boolean": bool,
    "int": int,
    "long": int,
    "double": float,
    "string": str,
    "bytes": bytes,
}


def mirrors(hint: Any, type: Any) -> bool:
    """Whether a Python type is what an Avro type is read as."""
    parts = get_args(hint)
    match type:
        case list():
            either = get_origin(hint) in (Union, UnionType) and len(parts) == len(type)
            return either and all(any(mirrors(part, branch) for part in parts) for branch in type)
        case "string" if get_origin(hint) is Literal:
            return True  # an open set in Avro, a closed one in code
        case str():
            return hint is _SCALARS[type]
        case _:
            return _mirrors_named(hint, type)


def _mirrors_named(hint: Any, type: Json) -> bool:
    parts = get_args(hint)
    match type["type"]:
        case "array":
            return get_origin(hint) is tuple and mirrors(parts[0], type["items"])
        case "map":
            return mirrors(parts[1], type["values"])
        case "enum":
            return parts == tuple(type["symbols"])
        case "record":
            return hint is CLASSES[type["name"]]
        case _:
            return hint is datetime and type == {"type": "long", "logicalType": "timestamp-millis"}


@pytest.mark.parametrize("schema", RECORD_SCHEMAS, ids=[each["name"] for each in RECORD_SCHEMAS])
def test_everything_is_explained(schema: Json) -> None:
    """Every record, field and enum has a sentence of documentation."""
    assert len(schema["doc"]) > 10
    for each in schema["fields"]:
        assert len(each["doc"]) > 5, each["name"]
        if isinstance(each["type"], dict) and each["type"]["type"] == "enum":
            assert each["type"]["doc"], each["name"]


@pytest.mark.parametrize("name", ["event", "decision"])
def test_identity_comes_first(name: str) -> None:
    """A reader of the first three fields alone knows whose notification it is; so it stays."""
    assert [each["name"] for each in current(name)["fields"]][:3] == ["event_id", "user_id", "tenant"]
