"""Dead letters by error and age. Pure."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from pipeline.model.dead import Letter

_HOUR = 3_600_000  # milliseconds
AGES: tuple[tuple[str, float], ...] = (  # name, and below how many milliseconds
    ("< 1 h", _HOUR),
    ("< 1 d", 24 * _HOUR),
    ("< 7 d", 7 * 24 * _HOUR),
    ("older", float("inf")),
)


@dataclass(slots=True, kw_only=True)
class Row:
    """Letters of one kind of failure."""

    fingerprint: str
    disposition: str
    stage: str
    provider: str
    code: str
    message: str  # of the latest
    ages: list[int] = field(default_factory=lambda: [0] * len(AGES))

    @property
    def total(self) -> int:
        """Of every age."""
        return sum(self.ages)


class Matrix:
    """Counts as it is told; `now` in milliseconds since 1970, UTC."""

    def __init__(self, now: int) -> None:
        self._now = now
        self._rows: dict[tuple[str, ...], Row] = {}

    def add(self, letter: Letter) -> None:
        """One more. Letters of before there were fingerprints are told apart by their reasons."""
        key = tuple(
            letter.fact(name) for name in ("fingerprint", "disposition", "stage", "provider", "provider.code")
        )
        row = self._rows.get(key)
        if row is None:
            print_, disposition, stage, provider, code = key
            row = self._rows[key] = Row(
                fingerprint=print_,
                disposition=disposition,
                stage=stage,
                provider=provider,
                code=code,
                message="",
            )
        row.message = letter.fact("message")
        age = self._now - letter.at
        row.ages[next(n for n, (_, below) in enumerate(AGES) if age < below)] += 1

    def rows(self) -> Sequence[Row]:
        """The most frequent first."""
        return sorted(self._rows.values(), key=lambda row: -row.total)
