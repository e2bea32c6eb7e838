"""Templates: immutable versions of words, and the rule by which a language is chosen."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from pipeline.model.catalogue import EventType
from pipeline.model.event import Channel, Event, Value

UNSUBSCRIBE = "unsubscribe_url"  # a variable of every e-mail; nil where there is nothing to opt out of


@dataclass(frozen=True, slots=True, kw_only=True)
class Template:
    """The Liquid sources of one (type, version, channel, locale), by part.

    Parts: title, text, link, image, sound, badge for push and Web Push; text for SMS; subject, text, html
    for e-mail.
    """

    type: str
    version: int
    channel: str
    locale: str
    parts: Mapping[str, str] = field(default_factory=dict[str, str])


@dataclass(frozen=True, slots=True, kw_only=True)
class Unrenderable:
    """Why a template and an event's data make no words. Names no value of the data."""

    template: str  # type, version, channel, locale and part
    line: int  # from 1; 0 when unknown
    message: str

    def __str__(self) -> str:
        return f"{self.template} line {self.line}: {self.message}"


def variables(
    event: Event, kind: EventType | None, channel: Channel, unsubscribe_url: str | None = None
) -> dict[str, Value]:
    """What a template may name: the event's data, and its absent optional ones as nil; an unknown name stays an error."""
    optional = [] if kind is None else [name for name, one in kind.variables.items() if not one.required]
    ours = {UNSUBSCRIBE: unsubscribe_url} if channel == "email" else {}
    return {**dict.fromkeys(optional), **event.data, **ours}


def fallbacks(locale: str) -> Iterator[str]:
    """`pt-BR` gives pt-BR, pt (RFC 4647 lookup)."""
    parts = locale.replace("_", "-").split("-")
    for length in range(len(parts), 0, -1):
        yield "-".join(parts[:length])


def choose_locale(wanted: str, available: Sequence[str]) -> str:
    """The best of the available languages for the wanted one; the first is the default.

    `available` must not be empty.
    """
    return next((locale for locale in fallbacks(wanted) if locale in available), available[0])
