"""How a run looks on a terminal: live while it goes on, in sentences when it has ended."""

import time
from collections.abc import Mapping
from typing import Any

from rich.console import Console
from rich.markup import escape

from pipeline.cli.show import answer, say
from pipeline.model.replay import Run
from pipeline.stages.replay.tools import Told

_EVERY = 5.0  # seconds between two lines when nobody watches
_LIVE = 0.2  # seconds between two pictures when somebody does
_WORDS: Mapping[str, str] = {
    "sent": "sent again",
    "delivered": "already delivered",
    "replayed": "already taken by another run",
    "superseded": "a later attempt is known",
    "discarded": "discarded",
    "suppressed": "now suppressed by preference, or without an address",
    "expired": "expired",
    "recalled": "recalled",
    "uncertain": "may have gone out (--uncertain sends them too)",
    "looping": "replayed too often (--most)",
    "invalid": "refused by their type",
    "unreadable": "unreadable",
}


class Progress:
    """Tells how far a run is: one line that changes, or a line now and then when it is no terminal."""

    def __init__(self, run: Run) -> None:
        self._total = sum(one.end - one.first for one in run.ranges)
        self._console = Console(stderr=True)
        self._last = time.monotonic()

    def __call__(self, told: Told) -> None:
        """After each batch."""
        live, now = self._console.is_terminal, time.monotonic()
        if now - self._last < (_LIVE if live else _EVERY):
            return
        self._last = now
        self._console.print(self._line(told), end="\r" if live else "\n", highlight=False)

    def _line(self, told: Told) -> str:
        speed = told.read / told.seconds if told.seconds else 0.0
        left = max(0, self._total - sum(told.counts.values()))
        eta = f", {left / speed:,.0f} s left at most" if speed else ""
        counts = ", ".join(f"{fate} {count:,}" for fate, count in sorted(told.counts.items()))
        return f"{told.read:,} of {self._total:,} read, {speed:,.0f}/s{eta}: {counts or 'none meant yet'}"


def tell(run: Run, told: Told, *, dry: bool, json: bool) -> None:
    """How it ended, and what to type next."""
    if json:
        answer(as_json(run, told, dry=dry))
        return
    what = "would be" if dry else "was" if told.counts.get("sent", 0) == 1 else "were"
    total = sum(told.counts.values())
    say(f"run [bold]{run.run_id}[/] ({run.kind}): {total:,} letters meant")
    for fate, words in _WORDS.items():
        if count := told.counts.get(fate, 0):
            say(f"{count:>10,}  {f'{what} ' if fate == 'sent' else ''}{words}")
            for sample in told.samples.get(fate, ()) if dry or fate != "sent" else ():
                say(f"            [dim]{escape(sample)}[/]")
    for place, changes in told.changes:
        say(f"  {escape(place)}")
        for name, before, after in changes:
            say(f"    [red]- {escape(name)} = {escape(before)}[/]")
            say(f"    [green]+ {escape(name)} = {escape(after)}[/]")
    say(_next(run, told, dry=dry))


def as_json(run: Run, told: Told, *, dry: bool) -> dict[str, Any]:
    """The same for programs."""
    sent = told.counts.get("sent", 0)
    return {
        "run_id": run.run_id,
        "status": "frozen" if dry else told.status,
        "why": told.why,
        "dry_run": dry,
        "sent": 0 if dry else sent,
        "would_send": sent if dry else 0,
        "counts": dict(told.counts),
        "seconds": round(told.seconds, 3),
        "samples": dict(told.samples),
        "changes": [{"letter": place, "changes": list(changes)} for place, changes in told.changes],
    }


def _next(run: Run, told: Told, *, dry: bool) -> str:
    if dry:
        return f"Nothing was sent. To send just these: everpost dead resume {run.run_id} --why ..."
    why = f": {escape(told.why)}" if told.why else ""
    if told.status in ("paused", "stopped"):
        return f"{told.status}{why}. To go on: everpost dead resume {run.run_id} --why ..."
    if run.kind == "replay" and told.counts.get("sent"):
        return f"{told.status}{why}. What becomes of them: everpost dead runs {run.run_id}"
    return f"{told.status}{why}."
