"""TOML read strictly: what is missing, of a wrong type or unknown is an error with file, key and fix."""

import tomllib
from collections.abc import KeysView, Sequence
from pathlib import Path
from typing import Any, TypeVar, overload

from pipeline.model.errors import ConfigurationError

T = TypeVar("T", bool, int, str)
Word = TypeVar("Word", bound=str)


def read(path: Path) -> "Table":
    """A file as a table. Raises ConfigurationError when it is missing or no TOML."""
    try:
        return Table(path, "", tomllib.loads(path.read_text("utf-8")))
    except FileNotFoundError as error:
        raise ConfigurationError(
            f"{path} is missing; create it, or name another catalogue directory"
        ) from error
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise ConfigurationError(f"{path}: {error}; correct the file") from error


class Table:
    """One table of a file. Every key is taken once; `end` complains about those that nobody took."""

    def __init__(self, path: Path, name: str, values: dict[str, Any]) -> None:
        self._path = path
        self._name = name
        self._values = values
        self._left = dict(values)

    def keys(self) -> KeysView[str]:
        """The keys of the table."""
        return self._values.keys()

    def table(self, key: str) -> "Table":
        """The table under a key; an empty one when it is absent."""
        value = self._left.pop(key, {})
        if not isinstance(value, dict):
            raise self.wrong(key, f"is a {type(value).__name__}", f"write it as a table: [{key}]")
        return Table(self._path, f"{self._name}{key}.", value)

    def take(self, key: str, kind: type[T], *, default: T | None = None) -> T:
        """The value under a key; without a default it must be there."""
        value = self._left.pop(key, default)
        if value is None:
            raise self.wrong(key, "is missing", f"add it, a {kind.__name__}")
        if type(value) is not kind:  # not isinstance: a bool is an int in Python
            raise self.wrong(key, f"is a {type(value).__name__}", f"give a {kind.__name__}")
        return value

    def texts(self, key: str) -> Sequence[str]:
        """The list of strings under a key, which must be there."""
        value = self._left.pop(key, None)
        if not isinstance(value, list) or not all(isinstance(one, str) for one in value):
            raise self.wrong(key, "is no list of strings", f'write {key} = ["…"]')
        return value

    @overload
    def one_of(self, key: str, words: Sequence[Word]) -> Word: ...
    @overload
    def one_of(self, key: str, words: Sequence[Word], *, default: Word) -> Word: ...
    def one_of(self, key: str, words: Sequence[Word], *, default: Word | None = None) -> Word:
        """The word under a key, one of the given."""
        return self._word(key, self.take(key, str, default=default), words)

    def some_of(
        self, key: str, words: Sequence[Word], *, default: Sequence[Word] | None = None
    ) -> tuple[Word, ...]:
        """The list under a key, each one of the given words, in the file's order."""
        if key not in self._left and default is not None:
            return tuple(default)
        return tuple(self._word(key, one, words) for one in self.texts(key))

    def end(self) -> None:
        """Complain about keys that nobody took."""
        if self._left:
            known = ", ".join(sorted(self._values.keys() - self._left.keys())) or "none here"
            raise self.wrong(next(iter(self._left)), "is not known", f"remove it; known: {known}")

    def wrong(self, key: str, message: str, fix: str) -> ConfigurationError:
        """The error for a key of this table, to be raised."""
        return ConfigurationError(f"{self._path}: {self._name}{key}: {message}; {fix}")

    def _word(self, key: str, given: str, words: Sequence[Word]) -> Word:
        found = next((word for word in words if word == given), None)
        if found is None:
            raise self.wrong(key, f"{given!r} is not possible", f"use one of: {', '.join(words) or 'none'}")
        return found
