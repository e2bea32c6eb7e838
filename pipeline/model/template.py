"""Templates: immutable versions of words, and the rule by which a language is chosen."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True, kw_only=True)
class Template:
    """The Liquid sources of one (type, version, channel, locale), by part.

    Parts: title, text, link, image for push and Web Push; text for SMS; subject, text, html for
    e-mail.
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
