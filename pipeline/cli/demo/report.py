"""The demo's figures: one value, as a table for people and as JSON for programs."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from pipeline.cli.demo.day import Accepted
from pipeline.cli.demo.verify import Comparison
from pipeline.model.ledger import Ledger


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """What the demo came to."""

    accepted: Accepted
    ledger: Ledger
    comparison: Comparison
    restarts: Mapping[str, int]  # stages that were started again, how often

    @property
    def balanced(self) -> bool:
        """The ledger closes, has no fewer records than the doors accepted, and each event is decided once.

        There may be more: of what a publisher or a relay writes again after an error, all but one are duplicates.
        """
        ledger, accepted = self.ledger, self.accepted
        complete = ledger.accepted + accepted.absorbed >= accepted.events
        return ledger.balanced and complete and ledger.accepted - ledger.duplicates == accepted.distinct

    @property
    def good(self) -> bool:
        """Whether everything is as it should be: the exit code."""
        return self.balanced and not self.comparison.mismatches and self.ledger.in_flight == 0

    def as_json(self) -> dict[str, Any]:
        """The object of `--json`; the first eight keys are stable."""
        ledger = self.ledger
        return {
            "accepted": self.accepted.events,
            "duplicates": ledger.duplicates + self.accepted.absorbed,
            "suppressed": sum(ledger.suppressed.values()),
            "delivered": dict(ledger.delivered),
            "dead": sum(ledger.dead.values()),
            "in_flight": ledger.in_flight,
            "balanced": self.balanced,
            "sandbox_mismatches": len(self.comparison.mismatches),
            "suppressed_by_reason": dict(ledger.suppressed),
            "dead_by_reason": dict(ledger.dead),
            "rejected": sum(ledger.rejected.values()),
            "expired": ledger.expired,
            "repeats": self.comparison.repeats,
            "restarts": dict(self.restarts),
            "mismatches": list(self.comparison.mismatches[:20]),
            "missing": list(ledger.missing[:20]),
        }

    def lines(self) -> Iterator[str]:
        """The last lines of the demo."""
        ledger = self.ledger
        yield f"accepted     {self.accepted.events:>6,} events"
        yield from (f"delivered    {count:>6,} by {name}" for name, count in sorted(ledger.delivered.items()))
        yield f"suppressed   {_counted(ledger.suppressed)}"
        yield f"duplicate    {ledger.duplicates + self.accepted.absorbed:>6,}"
        yield f"dead         {_counted(ledger.dead)}"
        yield f"in flight    {ledger.in_flight:>6,}"
        if self.restarts:
            again = ", ".join(f"{name} {count}×" for name, count in self.restarts.items())
            yield f"restarted    {again}; {self.comparison.repeats} messages went out again as the same one"
        yield from (f"[bold red]missing[/]  {name}" for name in ledger.missing[:20])
        yield from (f"[bold red]differs[/]  {mismatch}" for mismatch in self.comparison.mismatches[:20])
        if not self.comparison.mismatches:
            yield "[green]every local provider received exactly what the decisions say[/]"
        yield "[green]ledger balanced[/]" if self.balanced else "[bold red]ledger does not balance[/]"


def _counted(by: Mapping[str, int]) -> str:
    inside = ", ".join(f"{name} {count:,}" for name, count in sorted(by.items()))
    return f"{sum(by.values()):>6,}" + (f" ({inside})" if inside else "")
