"""How answers look: sentences for people, one JSON object on a line for programs."""

from typing import Any

import orjson
from rich.console import Console

out = Console(soft_wrap=True, highlight=False)


def say(sentence: str) -> None:
    """A line for people; rich's markup is allowed."""
    out.print(sentence)


def answer(value: Any) -> None:
    """A value for programs: one line of JSON, the last that a command prints."""
    text = orjson.dumps(value, option=orjson.OPT_NON_STR_KEYS, default=_plain).decode()
    out.print(text, markup=False)


def _plain(value: Any) -> Any:
    """What JSON has no word for: sets as lists, bytes as hexadecimal digits, the rest as text."""
    if isinstance(value, frozenset):
        return sorted(value, key=str)
    return value.hex() if isinstance(value, bytes) else str(value)
