"""A wish as people write it: CATEGORY, CATEGORY:CHANNEL, or :CHANNEL for every category."""

from collections.abc import Mapping, Sequence

from pipeline.model.catalogue import Category
from pipeline.model.errors import ConfigurationError
from pipeline.model.event import CHANNELS, Channel
from pipeline.model.profile import AnyChannel
from pipeline.settings import Settings
from pipeline.wiring import catalogue

FORM = "CATEGORY, CATEGORY:CHANNEL, or :CHANNEL for every category"
_CHANNELS: Mapping[str, Channel] = {channel: channel for channel in CHANNELS}


def categories(current: Settings) -> Mapping[str, Category]:
    """The categories of the catalogue's types, by name."""
    found = {kind.category.name: kind.category for kind in catalogue(current).types.values()}
    return dict(sorted(found.items()))


def wishes(texts: Sequence[str], known: Mapping[str, Category]) -> list[tuple[str, AnyChannel]]:
    """The levels of preference that the texts name; an empty category or channel stands for all.

    Raises ConfigurationError with what may be written.
    """
    return [_wish(text, known) for text in texts]


def _wish(text: str, known: Mapping[str, Category]) -> tuple[str, AnyChannel]:
    category, colon, name = text.partition(":")
    channel = channel_named(name) if name else ""
    if (category and category not in known) or not (category or channel) or (colon and not name):
        raise ConfigurationError(f"{text!r}: write {FORM}; categories: {', '.join(known)}")
    return category, channel


def channel_named(name: str) -> Channel:
    """The channel of that name. Raises ConfigurationError that lists them."""
    if (channel := _CHANNELS.get(name)) is None:
        raise ConfigurationError(f"{name!r} is no channel: {', '.join(CHANNELS)}")
    return channel


def spoken(wish: tuple[str, AnyChannel]) -> str:
    """The level in words."""
    category, channel = wish
    return f"{category or 'everything'} by {channel}" if channel else category
