"""Reading a connector's options: strings in, values out, `BadOptions` that says what to set."""

from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path

from connectors.contract import BadOptions


class Options:
    """The options of one connector. Read each, then call `done` so that a typo is not ignored."""

    def __init__(self, connector: str, options: Mapping[str, str]) -> None:
        self._connector = connector
        self._options = options
        self._read: set[str] = set()

    def text(self, name: str, default: str | None = None) -> str:
        """A string that is not empty; without a default it must be set."""
        self._read.add(name)
        value = self._options.get(name, "") or default
        if value is None:
            raise BadOptions(f"{self._connector}: option {name!r} is missing; set {self._variable(name)}")
        return value

    def number(self, name: str, default: int, *, least: int = 1) -> int:
        """A whole number of at least `least`."""
        text = self.text(name, str(default))
        if not text.isascii() or not text.isdigit() or int(text) < least:
            raise self._malformed(name, text, f"a whole number of at least {least}")
        return int(text)

    def seconds(self, name: str, default: float) -> float:
        """A duration above zero and of at most an hour, in seconds."""
        text = self.text(name, str(default))
        try:
            value = float(text)
        except ValueError:
            value = 0.0
        if not 0 < value <= 3600:
            raise self._malformed(name, text, "seconds, above 0 and at most 3600")
        return value

    def file(self, name: str) -> Path | None:
        """A file that is there; None when the option is not set."""
        text = self.text(name, default="")
        if not text:
            return None
        if not Path(text).is_file():
            raise self._malformed(name, text, "the path of a file that this process can read")
        return Path(text)

    def needed_file(self, name: str) -> Path:
        """A file that is there; the option must be set."""
        self.text(name)
        return self.file(name) or Path()

    def done(self) -> None:
        """Raise BadOptions for an option that nobody asked for."""
        for name in sorted(self._options.keys() - self._read):
            known = ", ".join(sorted(self._read))
            raise BadOptions(f"{self._connector}: unknown option {name!r}; known: {known}")

    def _malformed(self, name: str, text: str, wanted: str) -> BadOptions:
        return BadOptions(
            f"{self._connector}: option {name!r} is {text!r}; set {self._variable(name)} to {wanted}"
        )

    def _variable(self, name: str) -> str:
        return f"EVERPOST_CONNECTOR_{self._connector.upper()}_{name.upper()}"


def utc_now() -> datetime:
    """The clock of a connector that is made of options: they are strings, so it brings its own."""
    return datetime.now(UTC)  # noqa: TID251 - everything else takes `now`
