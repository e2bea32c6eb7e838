"""Schema ids from the lock file: which number stands for which released schema, without any server."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fastavro import parse_schema

from pipeline.model.errors import ConfigurationError, Unreadable

SCHEMAS = Path(__file__).parents[3] / "schemas"


@dataclass(frozen=True, slots=True, kw_only=True)
class Release:
    """One version of one record. It never changes: its number is in bytes that are kept for weeks."""

    id: int  # the number in the wire format
    name: str  # event, decision, ...
    version: int  # from 1, for each name
    file: str  # of the Avro schema, relative to the lock file
    fingerprint: str  # see `release.print_of`

    @property
    def label(self) -> str:
        """How people name it."""
        return f"{self.name} version {self.version}"


def releases(directory: Path = SCHEMAS) -> tuple[Release, ...]:
    """Everything that was ever released, in that order. Raises ConfigurationError."""
    try:
        lock = json.loads((directory / "ids.json").read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigurationError(f"the schemas are incomplete: {error}; install everpost anew") from error
    return tuple(Release(**entry) for entry in lock["schemas"])


def source(release: Release, directory: Path = SCHEMAS) -> dict[str, Any]:
    """The released Avro schema. Raises ConfigurationError."""
    try:
        return json.loads((directory / release.file).read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigurationError(f"the schemas are incomplete: {error}; install everpost anew") from error


def parsed(schema: dict[str, Any]) -> dict[str, Any]:
    """A record schema as fastavro works with it. Raises what its `parse_schema` raises."""
    found = parse_schema(schema)
    _set_bytes(found)
    assert isinstance(found, dict)
    return found


def _set_bytes(schema: Any) -> None:
    """Defaults of bytes become bytes. JSON writes them as text, and fastavro would hand that out."""
    match schema:
        case {"type": "record"}:
            for field in schema["fields"]:
                if field["type"] in _BYTES and isinstance(field.get("default"), str):
                    field["default"] = field["default"].encode("latin-1")
                _set_bytes(field["type"])
        case {"type": "array"}:
            _set_bytes(schema["items"])
        case {"type": "map"}:
            _set_bytes(schema["values"])
        case list():
            for branch in schema:
                _set_bytes(branch)
        case _:
            pass


_BYTES = ("bytes", ["bytes", "null"])  # a default is of the first branch


class LockFile:
    """The ids of `schemas/ids.json`. Every released version stays readable for ever."""

    def __init__(self, directory: Path = SCHEMAS) -> None:
        lock = releases(directory)
        self._schemas: dict[int, Mapping[str, Any]] = {}
        for release in lock:
            self._schemas[release.id] = parsed(source(release, directory))
        self._current = {release.name: release.id for release in lock}  # the last of a name is written

    def write_id(self, name: str) -> int:
        """The id that records of this name are written with."""
        try:
            return self._current[name]
        except KeyError:
            raise ConfigurationError(f"schemas/ids.json has no {name}: release it first") from None

    def schema(self, id: int) -> Mapping[str, Any]:
        """The writer schema. Raises Unreadable for an id that was never released."""
        try:
            return self._schemas[id]
        except KeyError:
            raise Unreadable(f"schema id {id} was never released") from None
