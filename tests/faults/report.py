"""What a fault run has shown, as a table and as figures."""

import signal
import statistics
from bisect import bisect_right
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from rich.console import Console
from rich.table import Table

from infra.embedded.supervisor import meaning
from tests.faults.books import Books
from tests.faults.inject import Result

KILL, BROKER = 3.0, 5.0  # seconds: the targets of kill -9 to commit, and of a broker's return to commit
_HANDLED = frozenset(
    {0, 75, 78, -signal.SIGKILL}
)  # exit codes: told to end, try again, configuration, killed
_SHOWN = 10  # of what is wrong


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """One run."""

    books: Books
    results: Sequence[Result]
    witness_agrees: bool  # the reader that was there all the time saw what lies on the topic
    ends: Mapping[int, int]  # of router processes, by exit code
    seconds: float
    seed: int
    failure: str | None  # why no more faults were injected before all were

    @property
    def crashes(self) -> int:
        """Router processes that ended with an error that nobody handles."""
        return sum(count for code, count in self.ends.items() if code not in _HANDLED)

    @property
    def right(self) -> bool:
        """Every fault happened and passed; nothing is lost, nothing decided or delivered twice."""
        books = self.books
        wrong = books.lost or books.decided_twice or books.double
        return self.failure is None and self.witness_agrees and not wrong

    def figures(self) -> dict[str, float]:
        """The last line of a run with `--json`; times in seconds."""
        books = self.books
        return {
            "faults": len(self.results),
            "events": len(books.published),
            "lost": books.lost,
            "decided_twice": books.decided_twice,
            "repeats": books.repeats,
            "unexplained_repeats": books.repeats,  # a transaction leaves none to be explained
            "double": books.double,
            "seed": self.seed,
            "kill_to_commit_p50": round(statistics.median(self._kills()), 2),
            "kill_to_commit_max": round(max(self._kills()), 2),
            "broker_back_to_commit_max": round(max(self._brokers()), 2),
        }

    def show(self, console: Console) -> None:
        """A row for each kind of fault, and what it comes to."""
        table = Table("fault", *("times", "events", "lost", "decided twice", "p50 s", "max s"))
        for column in table.columns[1:]:
            column.justify = "right"
        lost, twice = self._by_name(self.books.lost_at()), self._by_name(self.books.twice_at())
        for name in sorted({result.fault.name for result in self.results}):
            of_it = [result for result in self.results if result.fault.name == name]
            seconds = [result.seconds for result in of_it]
            table.add_row(
                name,
                str(len(of_it)),
                f"{sum(result.decided for result in of_it):,}",
                str(lost[name]),
                str(twice[name]),
                f"{statistics.median(seconds):.2f}",
                f"{max(seconds):.2f}",
            )
        console.print(table)
        self._sum_up(console)
        if self.crashes:
            console.print(f"{self.crashes} ended with an error that nobody handles: see the tracebacks")
        if not self.right:
            self._complain(console)

    def _sum_up(self, console: Console) -> None:
        books, ends = self.books, ", ".join(f"{n} x {meaning(code)}" for code, n in sorted(self.ends.items()))
        console.print(
            f"{len(self.results)} faults in {self.seconds:.0f} s, seed {self.seed}: {len(books.published):,} events, "
            f"{len(books.delivered):,} deliveries; lost {books.lost}, decided twice {books.decided_twice}, "
            f"delivered twice or unplanned {books.double}\n"
            f"kill -9 to commit at most {max(self._kills()):.2f} s (target {KILL:.0f}), "
            f"a broker's return to commit at most {max(self._brokers()):.2f} s (target {BROKER:.0f})\n"
            f"how router processes ended: {ends}"
        )

    def _complain(self, console: Console) -> None:
        books = self.books
        if self.failure is not None:
            console.print(f"stopped after {len(self.results)} faults: {self.failure}")
        wrong = {
            "published, not decided": books.undecided,
            "no decision is the first": books.unsettled,
            "not delivered": books.missing,
            "a record with several decisions": books.decided_again,
            "an id with several first decisions": books.settled_again,
            "decided, never published": books.invented,
            "delivered more than once": books.reached_again,
            "delivered, not planned": books.unplanned,
        }
        for what, which in wrong.items():
            if which:
                console.print(f"{what}: {len(which)}, such as {sorted(which)[:_SHOWN]}")
        if not self.witness_agrees:
            console.print(
                "a reader that was there all the time saw other decisions than lie on the topic now"
            )

    def _by_name(self, moments: Sequence[float]) -> Counter[str]:
        """Each counted for the fault that had happened last before it."""
        starts = [result.began for result in self.results]
        return Counter(
            self.results[max(0, bisect_right(starts, at) - 1)].fault.name for at in moments if starts
        )

    def _kills(self) -> list[float]:
        """Seconds from each `kill -9` of a router to a commit in every partition; 0 when there was none."""
        of_kills = {"kill", "kill all"}
        return [result.seconds for result in self.results if result.fault.kind in of_kills] or [0.0]

    def _brokers(self) -> list[float]:
        """Seconds from each return of the broker to a commit in every partition; 0 when there was none."""
        return [
            result.after_return
            for result in self.results
            if result.fault.kind.startswith("broker") and result.after_return is not None
        ] or [0.0]
