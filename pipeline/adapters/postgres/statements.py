"""Loads the named statements of `queries/*.sql`: a line `-- name: <name>`, then the statement."""

import re
from collections.abc import Mapping
from pathlib import Path

_HERE = Path(__file__).parent / "queries"
_NAME = re.compile(r"^-- name: (\w+)$", re.MULTILINE)


def load(file: str) -> Mapping[str, str]:
    """The statements of one file by name, comments included: they show in pg_stat_activity."""
    parts = _NAME.split((_HERE / f"{file}.sql").read_text(encoding="utf-8"))
    return {name: text.strip() for name, text in zip(parts[1::2], parts[2::2], strict=True)}
