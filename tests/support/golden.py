"""The golden records of `schemas/examples/`: what was once written, as bytes and as people read it."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, get_args, get_type_hints

from pipeline.adapters.wire.ids import SCHEMAS
from pipeline.ports import Record

RECORDS: dict[str, type[Record]] = {cls.__name__.lower(): cls for cls in get_args(Record)}


@dataclass(frozen=True, slots=True, kw_only=True)
class Example:
    """One golden record. `record` is what the present code makes of the bytes."""

    name: str
    about: str
    version: int  # that the bytes were written with
    bytes: bytes
    record: Record


def examples(directory: Path = SCHEMAS / "examples") -> Iterator[Example]:
    """Every golden record of every schema."""
    for name, cls in RECORDS.items():
        for entry in json.loads((directory / f"{name}.json").read_text(encoding="utf-8")):
            yield Example(
                name=name,
                about=entry["about"],
                version=entry["version"],
                bytes=bytes.fromhex(entry["bytes"]),
                record=_record(cls, entry["record"]),
            )


def _record(cls: type[Any], values: dict[str, Any]) -> Any:
    hints = get_type_hints(cls)
    return cls(**{name: _value(hints[name], value) for name, value in values.items()})


def _value(hint: Any, value: Any) -> Any:
    kinds = (hint, *get_args(hint))
    if isinstance(value, str) and datetime in kinds:
        return datetime.fromisoformat(value)
    if hint is bytes:
        return bytes.fromhex(value)
    if isinstance(value, list):
        part = get_args(hint)[0]
        return tuple(_record(part, item) if isinstance(item, dict) else item for item in value)
    return value
