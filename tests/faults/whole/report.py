"""What a run has shown: one table, and figures."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from rich.console import Console
from rich.table import Table

from tests.faults.whole.books import Books
from tests.faults.whole.schedule import Fault

_SHOWN = 10  # of what is wrong


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """One run."""

    books: Books
    faults: Sequence[Fault]  # that happened
    failure: str | None  # why no more did
    agrees: bool  # the witness saw what lies in the topics
    balanced: bool  # the product's own ledger balances
    broken: Sequence[str]  # programs that ended by themselves
    seconds: float
    seed: int

    @property
    def right(self) -> bool:
        """Whether every promise was kept, and all has come to its end."""
        wrong = (self.books.lost, self.books.decided_again, self.books.invented, self.books.unexplained)
        return not any((*wrong, self.books.backlog, self.failure)) and self.agrees and self.balanced

    def figures(self) -> Mapping[str, object]:
        """One JSON object."""
        books = self.books
        return {
            "lost": books.lost,
            "unexplained_repeats": len(books.unexplained),
            "decided_twice": len(books.decided_again) + len(books.invented),
            "faults": len(self.faults),
            "kinds": len({fault.kind for fault in self.faults}),
            "events": len(books.accepted),
            "received": len(books.received),
            "repeats": sum(books.repeats.values()),
            "backlog": books.backlog,
            "ends": dict(books.ends),
            "witness_agrees": self.agrees,
            "balanced": self.balanced,
            "seconds": round(self.seconds),
            "seed": self.seed,
        }

    def show(self, console: Console) -> None:
        """The table, and what is wrong."""
        books = self.books
        table = Table("fault", "times", title=f"seed {self.seed}, {self.seconds:.0f} s")
        for kind, times in sorted(Counter(fault.kind for fault in self.faults).items()):
            table.add_row(kind, str(times))
        console.print(table)
        console.print(
            f"{len(books.accepted):,} events accepted, {len(books.received):,} messages taken by providers; "
            f"deliveries by end: {_counted(books.ends)}"
        )
        console.print(f"lost {books.lost}, decided twice {len(books.decided_again)}, backlog {books.backlog}")
        console.print(
            f"sent again: {_counted({why or 'UNEXPLAINED': n for why, n in books.repeats.items()})}"
        )
        if self.broken:
            words = Counter(line.partition(";")[0] for line in self.broken)
            console.print(f"ended by themselves: {_counted(words)}")
        if not self.right:
            self._complain(console)

    def _complain(self, console: Console) -> None:
        books = self.books
        if self.failure is not None:
            console.print(f"stopped after {len(self.faults)} faults: {self.failure}")
        wrong: Mapping[str, Iterable[object]] = {
            "accepted, never decided": books.undecided,
            "decided, a channel has no delivery": books.unplanned,
            "a delivery without an end": books.unended,
            "called delivered, no provider took it": books.unfounded,
            "poison that was not kept": books.eaten,
            "decided twice": books.decided_again,
            "never accepted": books.invented,
            "sent again, unexplained": books.unexplained,
        }
        for what, which in wrong.items():
            if names := sorted(map(str, which)):
                console.print(f"{what}: {len(names)}, such as {names[:_SHOWN]}")
        if not self.agrees:
            console.print("the witness saw other records than lie in the topics now")
        if not self.balanced:
            console.print("the product's own ledger does not balance")


def _counted(times: Mapping[str, int]) -> str:
    return ", ".join(f"{what} {n:,}" for what, n in sorted(times.items())) or "none"
