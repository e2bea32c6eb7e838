"""The catalogue from a directory: categories, event types, and the words in every language.

    categories.toml                 [flights]  [security] required = true  [offers] on_by_default = ["email"]
                                    [offers.caps] sms = "2 in 7d"  email = "3 in 24h, then hold"
    flight.cancelled/type.toml      category, channels, locales, [variables]; lane, time_to_live, choice, template_version
    flight.cancelled/v1/en.toml     [push] title text link image sound badge   [sms] text   [email] subject text html or mjml

A version is never changed once decisions have pinned it; new words are a new directory. `[push]` serves
apns, fcm and webpush, unless the file has a table of that name. Everything is checked here, so that a
slip shows at the start of a process and not in somebody's pocket; every error is a ConfigurationError
that names file, key and fix.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import get_args

from liquid import Environment, StrictUndefined
from liquid.exceptions import LiquidError

from pipeline.adapters.files.mail import BadMarkup, from_mjml, inlined
from pipeline.adapters.files.toml import Table, read
from pipeline.model.catalogue import (
    CHOICES,
    LONGEST_CAP,
    WHEN_UNCERTAIN,
    Cap,
    Catalogue,
    Category,
    EventType,
    Kind,
    Variable,
)
from pipeline.model.event import CHANNELS, LANES, Channel
from pipeline.model.template import UNSUBSCRIBE, Template

PUSH: tuple[Channel, ...] = ("apns", "fcm", "webpush")
_PARTS: Mapping[str, tuple[frozenset[str], frozenset[str]]] = {  # required, optional
    **dict.fromkeys(
        ("push", *PUSH), (frozenset({"title", "text"}), frozenset({"link", "image", "sound", "badge"}))
    ),
    "sms": (frozenset({"text"}), frozenset[str]()),
    "email": (frozenset({"subject", "text"}), frozenset({"html", "mjml"})),
}
_REFUSED = {
    "date": "a replay must render the same words, and `date` knows `now`; give the text as a variable",
    "safe": "it switches escaping off; write the markup into the template itself",
}
_KINDS: Mapping[str, Kind] = {kind: kind for kind in get_args(Kind)}
_UNITS = {"s": 1, "m": 60, "h": 3_600, "d": 86_400}  # seconds
_LIQUID = Environment(undefined=StrictUndefined)

_Key = tuple[str, int, str, str]  # type, version, channel or `push`, locale


class MemoryTemplates:
    """All versions of all templates, read once."""

    def __init__(self, templates: Mapping[_Key, Template]) -> None:
        self._templates = templates

    def get(self, type: str, version: int, channel: str, locale: str) -> Template | None:
        """The template of the channel, or of all push channels, or None."""
        found = self._templates.get((type, version, channel, locale))
        if found is None and channel in PUSH:
            return self._templates.get((type, version, "push", locale))
        return found


@dataclass(frozen=True, slots=True, kw_only=True)
class Loaded:
    """What a catalogue directory holds."""

    types: Catalogue
    templates: MemoryTemplates


def load(directory: Path) -> Loaded:
    """Read and check the whole directory. Raises ConfigurationError."""
    known = categories(read(directory / "categories.toml"))
    types: dict[str, EventType] = {}
    templates: dict[_Key, Template] = {}
    for path in sorted(directory.glob("*/type.toml")):
        source = read(path)
        kind = _type(path.parent.name, source, known)
        own = {
            key: found for version in sorted(path.parent.glob("v*")) for key, found in _words(version, kind)
        }
        _check_complete(source, kind, MemoryTemplates(own))
        types[kind.name] = kind
        templates |= own
    return Loaded(types=types, templates=MemoryTemplates(templates))


def categories(source: Table) -> dict[str, Category]:
    """Categories by name, as `categories.toml` writes them. Raises ConfigurationError."""
    found: dict[str, Category] = {}
    for name in list(source.keys()):
        table = source.table(name)
        found[name] = Category(
            name=name,
            required=table.take("required", bool, default=False),
            on_by_default=frozenset(table.some_of("on_by_default", CHANNELS, default=CHANNELS)),
            caps=_caps(table.table("caps")),
            uncertain=table.one_of("uncertain", WHEN_UNCERTAIN, default="give_up"),
        )
        table.end()
    return found


def _caps(table: Table) -> dict[Channel, Cap]:
    """`sms = "2 in 7d"` drops the third within seven days, `"2 in 7d, then hold"` keeps it for a free slot."""
    found: dict[Channel, Cap] = {}
    named = set(table.keys())
    for channel in CHANNELS:
        if channel not in named:
            continue
        text = table.take(channel, str)
        match = re.fullmatch(r"([1-9]\d{0,5}) in ([1-9]\d{0,5})([smhd])(, then hold)?", text)
        if match is None:
            raise table.wrong(
                channel, f"{text!r} is no cap", 'write it as "2 in 24h" or "2 in 24h, then hold"'
            )
        window = timedelta(seconds=int(match[2]) * _UNITS[match[3]])
        if window > LONGEST_CAP:
            raise table.wrong(channel, f"{text!r} is too long", f"at most {LONGEST_CAP.days}d are remembered")
        found[channel] = Cap(limit=int(match[1]), window=window, then="hold" if match[4] else "suppress")
    table.end()
    return found


def _type(name: str, source: Table, categories: Mapping[str, Category]) -> EventType:
    category = source.one_of("category", tuple(categories))
    variables = source.table("variables")
    kind = EventType(
        name=name,
        category=categories[category],
        channels=source.some_of("channels", CHANNELS),
        locales=tuple(source.texts("locales")),
        variables={variable: _variable(variables, variable) for variable in list(variables.keys())},
        lane=source.one_of("lane", LANES, default="normal"),
        choice=source.one_of("choice", CHOICES, default="all"),
        time_to_live=_duration(source, "time_to_live", default="24h"),
        template_version=source.take("template_version", int, default=1),
    )
    source.end()
    return kind


def _variable(source: Table, name: str) -> Variable:
    """`flight = "string"` is required, `gate = "string?"` is optional."""
    if name == UNSUBSCRIBE:
        raise source.wrong(name, "is what everpost gives to every e-mail", "choose another name")
    word = source.take(name, str)
    kind = _KINDS.get(word.removesuffix("?"))
    if kind is None:
        raise source.wrong(name, f"{word!r} is no kind", f"use {', '.join(_KINDS)}; with '?' when optional")
    return Variable(kind=kind, required=not word.endswith("?"))


def _duration(source: Table, key: str, *, default: str) -> timedelta:
    text = source.take(key, str, default=default)
    match = re.fullmatch(r"([1-9]\d{0,5})([smhd])", text)
    if match is None:
        raise source.wrong(key, f"{text!r} is no duration", "use a number and s, m, h or d, as in 90s or 24h")
    return timedelta(seconds=int(match[1]) * _UNITS[match[2]])


def _words(directory: Path, kind: EventType) -> list[tuple[_Key, Template]]:
    """Every template of one version: a file a language, a table a channel."""
    found: list[tuple[_Key, Template]] = []
    for path in sorted(directory.glob("*.toml")):
        source = read(path)
        if not re.fullmatch(r"v[1-9]\d*", directory.name):
            raise source.wrong("", f"{directory.name} is no version", "name the directory v1, v2, …")
        version, locale = int(directory.name[1:]), path.stem
        for channel in list(source.keys()):
            if channel not in _PARTS:
                raise source.wrong(channel, "is no channel", f"use one of: {', '.join(_PARTS)}")
            parts = _parts(source.table(channel), channel, kind)
            template = Template(type=kind.name, version=version, channel=channel, locale=locale, parts=parts)
            found.append(((kind.name, version, channel, locale), template))
    return found


def _parts(source: Table, channel: str, kind: EventType) -> dict[str, str]:
    required, optional = _PARTS[channel]
    parts = {part: source.take(part, str) for part in sorted(required)}
    parts |= {part: source.take(part, str) for part in sorted(optional & source.keys())}
    source.end()
    for part, text in parts.items():
        _check(source, channel, part, text, kind)
    return _compiled(source, parts)


def _compiled(source: Table, parts: Mapping[str, str]) -> dict[str, str]:
    """The parts with `mjml` and `html` as the one `html` that is sent."""
    found = dict(parts)
    if "mjml" in found and "html" in found:
        raise source.wrong("mjml", "stands beside html", "keep one of the two")
    try:
        if "mjml" in found:
            found["html"] = from_mjml(found.pop("mjml"))
        elif "html" in found:
            found["html"] = inlined(found["html"])
    except BadMarkup as error:
        part = "mjml" if "mjml" in parts else "html"
        raise source.wrong(part, f"line {error.line}: {error.message}", error.fix) from error
    return found


def _check(source: Table, channel: str, part: str, text: str, kind: EventType) -> None:
    """Parse one template and hold what it uses against the type."""
    try:
        used = _LIQUID.from_string(text).analyze()
    except LiquidError as error:
        context = error.context()
        line = context[0] if context else 1
        raise source.wrong(part, f"line {line}: {error.message}", "correct the template") from error
    for name in used.globals:
        if name not in kind.variables and not (name == UNSUBSCRIBE and channel == "email"):
            known = ", ".join(sorted(kind.variables)) or "none"
            raise source.wrong(
                part,
                f"{name} is no variable of {kind.name}",
                f"use one of: {known}; or add it to type.toml ('?' when only this version needs it)",
            )
    for name in used.filters:
        if name in _REFUSED:
            raise source.wrong(part, f"the filter {name} is not allowed", _REFUSED[name])
        if name not in _LIQUID.filters:
            raise source.wrong(part, f"{name} is no filter", "see the filters of Liquid")


def _check_complete(source: Table, kind: EventType, templates: MemoryTemplates) -> None:
    """What new decisions pin must exist for every language and channel of the type."""
    if not kind.locales:
        raise source.wrong("locales", "is empty", "name at least one; the first is the default")
    for locale in kind.locales:
        for channel in kind.channels:
            if templates.get(kind.name, kind.template_version, channel, locale) is None:
                name = "push" if channel in PUSH else channel
                raise source.wrong(
                    "template_version",
                    f"version {kind.template_version} has no words for {channel} in {locale}",
                    f"add [{name}] to v{kind.template_version}/{locale}.toml",
                )
