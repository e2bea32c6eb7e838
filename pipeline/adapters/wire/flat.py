"""Which records are flat enough for the compiled way (`native/flat.pyx`), and by what letters it reads them."""

from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from typing import Any

try:
    from pipeline.adapters.wire.native import flat as native
except ImportError:  # there was no C compiler when it was installed
    native = None

_TIME = {"type": "long", "logicalType": "timestamp-millis"}
_LETTERS: tuple[tuple[object, str], ...] = (
    ("string", "s"),
    ("bytes", "b"),
    ("boolean", "?"),
    ("int", "i"),
    ("long", "i"),
    (_TIME, "t"),
    (["null", "string"], "S"),
    (["null", "int"], "I"),
    (["null", "long"], "I"),
    (["null", _TIME], "T"),
    (["null", {"type": "array", "items": "string"}], "N"),
    ({"type": "map", "values": ["null", "boolean", "long", "double", "string"]}, "d"),
)


class Flat:
    """Reads and writes the records of a class; None for what it leaves to the general way."""

    def __init__(self, cls: type[Any], head: bytes, schema: Mapping[str, Any]) -> None:
        letters = {field["name"]: _letter(field["type"]) for field in schema["fields"]}
        known = {name: letter for name, letter in letters.items() if letter is not None}
        symbols = [field["type"]["symbols"] for field in schema["fields"] if known.get(field["name"]) == "e"]
        plain = is_dataclass(cls) and not hasattr(cls, "__post_init__") and len(symbols) <= 1
        same = known.keys() == letters.keys() == {field.name for field in fields(cls)}
        if native is None or not plain or not same:
            self.read = self.write = _never
        else:
            found = native.Flat(cls, head, known, tuple(symbols[0]) if symbols else ())
            self.read, self.write = found.read, found.write


def _letter(kind: object) -> str | None:
    """The letter of an Avro type; None when the compiled way does not know it."""
    if isinstance(kind, dict) and kind["type"] == "enum":
        return "e"
    return next((letter for known, letter in _LETTERS if known == kind), None)


def _never(_record: object) -> None:
    """There is no compiled way."""
