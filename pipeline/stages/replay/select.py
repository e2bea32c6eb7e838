"""Which letters are meant. Pure."""

from collections.abc import Callable, Mapping

from pipeline.model.dead import Letter
from pipeline.model.event import Value
from pipeline.model.replay import Selection, Sketch
from pipeline.model.window import PLACES

Data = Callable[[], Mapping[str, Value]]


def matches(selection: Selection, letter: Letter, sketch: Sketch | None, data: Data) -> bool:
    """Whether every condition holds. `sketch` is None when nobody can read the letter.

    `data` gives the variables of the event; it is asked only when a condition is about them.
    """
    return (
        _named(selection, letter, sketch)
        and _written(selection, letter)
        and _failed(selection, letter)
        and _owned(selection, letter, sketch)
        and _about(selection, sketch)
        and (not selection.fields or (sketch is not None and _holds(selection.fields, data())))
    )


def owner(letter: Letter, sketch: Sketch | None) -> tuple[str, str]:
    """Tenant and user; of a letter that nobody can read what its key says."""
    if sketch is not None:
        return sketch.tenant, sketch.user_id
    tenant, _, user = (letter.key or b"").decode(errors="replace").partition("/")
    return tenant, user


def _named(selection: Selection, letter: Letter, sketch: Sketch | None) -> bool:
    if selection.named is None:
        return True
    if letter.topic in PLACES:
        return any(part.has(*letter[:3]) for part in selection.parts)
    return sketch is not None and sketch.delivery_id in selection.named


def _written(selection: Selection, letter: Letter) -> bool:
    return (selection.since is None or letter.at >= selection.since.timestamp() * 1000) and (
        selection.until is None or letter.at < selection.until.timestamp() * 1000
    )


def _failed(selection: Selection, letter: Letter) -> bool:
    """How it died."""
    return (
        (selection.disposition is None or letter.fact("disposition") == selection.disposition)
        and (selection.provider is None or letter.fact("provider") == selection.provider)
        and (selection.error is None or letter.fact("fingerprint").startswith(selection.error))
        and (not selection.headers or all(_header(letter, *one) for one in selection.headers.items()))
    )


def _header(letter: Letter, name: str, wanted: str) -> bool:
    value = letter.headers.get(name)
    return value is not None and value.decode(errors="replace") == wanted


def _owned(selection: Selection, letter: Letter, sketch: Sketch | None) -> bool:
    if selection.tenant is None and selection.user is None:
        return True
    tenant, user = owner(letter, sketch)
    return selection.tenant in (None, tenant) and selection.user in (None, user)


def _about(selection: Selection, sketch: Sketch | None) -> bool:
    if selection.type is None and selection.channel is None:
        return True
    return (
        sketch is not None
        and selection.type in (None, sketch.type)
        and selection.channel in (None, sketch.channel)
    )


def _holds(fields: Mapping[str, str], data: Mapping[str, Value]) -> bool:
    return all(name in data and _text(data[name]) == wanted for name, wanted in fields.items())


def _text(value: Value) -> str:
    """As people write it: true and false in lower case, nothing for null."""
    if value is None:
        return ""
    return str(value).lower() if isinstance(value, bool) else str(value)
