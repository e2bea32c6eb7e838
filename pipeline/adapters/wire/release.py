"""A changed schema becomes a new version: checked against every earlier one, then fixed for ever.

`schemas/<name>.avsc` is what people edit, `schemas/released/` is what may be on a topic, and
`schemas/ids.json` says in which order it came. Words of documentation may change without a release;
nothing else may. For the command line and the tests: services only read what was released.
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, get_args

from fastavro import parse_schema
from fastavro.schema import SchemaParseException, UnknownType

from pipeline.adapters.wire.compatibility import problems
from pipeline.adapters.wire.ids import SCHEMAS, Release, releases, source
from pipeline.model.errors import ConfigurationError
from pipeline.model.topics import Schema

NAMES: tuple[Schema, ...] = get_args(Schema)


def check(directory: Path = SCHEMAS) -> tuple[str, ...]:
    """Everything that is wrong with the schemas, a sentence each.

    A released file that was touched, a change that breaks a reader, and a harmless change that is not
    released yet.
    """
    lock = releases(directory)
    return (*_touched(lock, directory), *_breaks(lock, directory), *_unreleased(lock, directory))


def release(directory: Path = SCHEMAS) -> tuple[Release, ...]:
    """Give every schema that differs from its last release a version and an id; return the new ones.

    Raises ConfigurationError with the sentences when a change breaks a reader; nothing is written then.
    """
    lock = releases(directory)
    if wrong := (*_touched(lock, directory), *_breaks(lock, directory)):
        raise ConfigurationError("nothing was released:\n  " + "\n  ".join(wrong))
    added: list[Release] = []
    for name in _changed(lock, directory):
        version = 1 + max((old.version for old in lock if old.name == name), default=0)
        added.append(
            Release(
                id=1 + max((old.id for old in (*lock, *added)), default=0),
                name=name,
                version=version,
                file=f"released/{name}.{version}.avsc",
                fingerprint=print_of(_current(name, directory)),
            )
        )
    for new in added:
        path = directory / new.file
        path.parent.mkdir(exist_ok=True)
        path.write_bytes((directory / f"{new.name}.avsc").read_bytes())
    if added:
        entries = [asdict(each) for each in (*lock, *added)]
        text = json.dumps({"schemas": entries}, indent=2) + "\n"
        (directory / "ids.json").write_text(text, encoding="utf-8")
    return tuple(added)


def print_of(schema: Mapping[str, Any]) -> str:
    """The schema's fingerprint: SHA-256 of its JSON without white space, hexadecimal.

    Avro's Parsing Canonical Form would not do: it leaves out defaults and logical types, and a record
    read with other ones is another record.
    """
    return hashlib.sha256(json.dumps(schema, separators=(",", ":")).encode()).hexdigest()


def meaning(schema: Any) -> Any:
    """The schema without its documentation: what must not differ from the release."""
    if isinstance(schema, Mapping):
        return {key: meaning(value) for key, value in schema.items() if key != "doc"}
    if isinstance(schema, list):
        return [meaning(value) for value in schema]
    return schema


def _current(name: str, directory: Path) -> dict[str, Any]:
    path = directory / f"{name}.avsc"
    try:
        schema = json.loads(path.read_text(encoding="utf-8"))
        parse_schema(schema)
    except (json.JSONDecodeError, SchemaParseException, UnknownType, KeyError, TypeError) as error:
        raise ConfigurationError(f"schemas/{path.name} is no Avro schema: {error!r}") from error
    return schema


def _changed(lock: Sequence[Release], directory: Path) -> list[str]:
    last = {old.name: old for old in lock}
    return [
        name
        for name in NAMES
        if name not in last or meaning(_current(name, directory)) != meaning(source(last[name], directory))
    ]


def _touched(lock: Sequence[Release], directory: Path) -> list[str]:
    return [
        f"schemas/{old.file} is not what was released as {old.label} (its fingerprint differs): records are on "
        "topics that only the released schema reads. Restore the file, and change schemas/"
        f"{old.name}.avsc instead."
        for old in lock
        if print_of(source(old, directory)) != old.fingerprint
    ]


def _breaks(lock: Sequence[Release], directory: Path) -> list[str]:
    return [
        problem
        for name in NAMES
        for problem in problems(
            name,
            _current(name, directory),
            {old.version: source(old, directory) for old in lock if old.name == name},
        )
    ]


def _unreleased(lock: Sequence[Release], directory: Path) -> list[str]:
    return [
        f"schemas/{name}.avsc differs from its last release: run `everpost schemas release` and commit what it "
        "writes, or services go on writing the released version."
        for name in _changed(lock, directory)
    ]
