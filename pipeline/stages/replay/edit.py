"""Mends a letter before it is sent again: `field=value`, checked against the schemas, shown as a difference. Pure.

Who it is for cannot be changed, nor what makes its identity: that would be another notification.
"""

from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import datetime
from typing import Any

from pipeline.model.catalogue import Catalogue, problems
from pipeline.model.delivery import Delivery
from pipeline.model.errors import ConfigurationError
from pipeline.model.event import LANES, Event, Value

Change = tuple[str, str, str]  # field, before, after
_DATA = "data."


class Refused(Exception):
    """This letter cannot be mended so: the event would break its type."""


def _time(text: str) -> datetime:
    at = datetime.fromisoformat(text)
    if at.tzinfo is None:
        raise ValueError("has no time zone")
    return at


def _lane(text: str) -> str:
    if text not in LANES:
        raise ValueError(f"is none of {', '.join(LANES)}")
    return text


def _version(text: str) -> int:
    if (version := int(text)) < 1:
        raise ValueError("is below 1")
    return version


_FIELDS: Mapping[str, Callable[[str], Any]] = {
    "collapse_key": lambda text: text or None,
    "expires_at": lambda text: _time(text) if text else None,
    "lane": _lane,
    "locale": str,
    "provider": lambda text: text or None,
    "template_version": _version,
}


def check(edits: Mapping[str, str]) -> None:
    """Refuse what can never be applied. Raises ConfigurationError that names the field."""
    for name, text in edits.items():
        if name.startswith(_DATA) and len(name) > len(_DATA):
            continue
        if name not in _FIELDS:
            known = ", ".join((*sorted(_FIELDS), "data.<variable>"))
            raise ConfigurationError(f"--set {name}: cannot be changed; these can: {known}")
        try:
            _FIELDS[name](text)
        except ValueError as error:
            raise ConfigurationError(f"--set {name}={text}: {error}") from error


def edited(
    delivery: Delivery, event: Event, edits: Mapping[str, str], catalogue: Catalogue, now: datetime
) -> tuple[Delivery, Event, tuple[Change, ...]]:
    """Delivery and event as they are after the edits, and what differs.

    Raises Refused when the event would break its type.
    """
    fields = {name: _FIELDS[name](text) for name, text in edits.items() if name in _FIELDS}
    data = {name.removeprefix(_DATA): text for name, text in edits.items() if name.startswith(_DATA)}
    mended = replace(event, data={**event.data, **_typed(event, data, catalogue)}) if data else event
    after = replace(delivery, **fields)
    if data:
        # Judged as of its creation: whether it is late is asked elsewhere.
        found = [one for one in problems(mended, catalogue, now) if one.field.startswith(_DATA)]
        if found:
            raise Refused(" | ".join(str(one) for one in found))
    changes = [(name, getattr(delivery, name), getattr(after, name)) for name in fields]
    changes += [(_DATA + name, event.data.get(name), mended.data.get(name)) for name in data]
    return after, mended, tuple((name, str(a), str(b)) for name, a, b in changes if a != b)


def _typed(event: Event, data: Mapping[str, str], catalogue: Catalogue) -> dict[str, Value]:
    kind = catalogue.get(event.type)
    known = kind.variables if kind else {}
    return {
        name: _value(text, known[name].kind if name in known else "string") for name, text in data.items()
    }


def _value(text: str, kind: str) -> Value:
    """As the catalogue wants it; what is none stays text, which its check then refuses."""
    try:
        if kind == "integer":
            return int(text)
        if kind == "number":
            return float(text)
    except ValueError:
        return text
    words: Mapping[str, Value] = {"true": True, "false": False} if kind == "boolean" else {}
    return words.get(text, text)
