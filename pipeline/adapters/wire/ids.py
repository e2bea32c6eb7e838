"""Schema ids from the lock file: which number stands for which released schema, without any server."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from fastavro import parse_schema

from pipeline.model.errors import ConfigurationError, Unreadable

SCHEMAS = Path(__file__).parents[3] / "schemas"


class LockFile:
    """The ids of `schemas/ids.json`. Every released version stays readable for ever."""

    def __init__(self, directory: Path = SCHEMAS) -> None:
        lock = json.loads((directory / "ids.json").read_text(encoding="utf-8"))
        self._schemas: dict[int, Mapping[str, Any]] = {}
        self._current: dict[str, int] = {}
        for entry in lock["schemas"]:  # in the order of release: the last of a name is written
            source = json.loads((directory / entry["file"]).read_text(encoding="utf-8"))
            self._schemas[entry["id"]] = parse_schema(source)  # pyright: ignore[reportArgumentType]
            self._current[entry["name"]] = entry["id"]

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
