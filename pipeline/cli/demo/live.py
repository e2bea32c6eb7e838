"""What is shown while the demo runs: a table that moves at a terminal, a line now and then elsewhere."""

import time
from collections.abc import Mapping
from typing import Self

from rich.console import Console
from rich.live import Live
from rich.table import Table

from pipeline.cli.demo.day import Accepted
from pipeline.model.event import CHANNELS
from pipeline.model.ledger import Ledger

_EVERY = 5.0  # seconds between two lines where no table can move


class Show:
    """Use it as a context manager; everything goes to standard error."""

    def __init__(self, planned: int) -> None:
        self._planned = planned
        self._console = Console(stderr=True, highlight=False, soft_wrap=True)
        self._live = Live(console=self._console, auto_refresh=False) if self._console.is_terminal else None
        self._said_at = -_EVERY

    def __enter__(self) -> Self:
        if self._live:
            self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._live:
            self._live.stop()

    def update(self, accepted: Accepted, arrived: Mapping[str, int], ledger: Ledger | None) -> None:
        """Show the figures of this moment."""
        if self._live:
            self._live.update(self._table(accepted, arrived, ledger), refresh=True)
        elif time.monotonic() - self._said_at >= _EVERY:
            self._said_at = time.monotonic()
            counts = " ".join(f"{channel} {arrived.get(channel, 0)}" for channel in CHANNELS)
            flight = "" if ledger is None else f", in flight {ledger.in_flight}"
            self._console.print(f"accepted {accepted.events}/{self._planned}, received: {counts}{flight}")

    def _table(self, accepted: Accepted, arrived: Mapping[str, int], ledger: Ledger | None) -> Table:
        table = Table(title=f"accepted {accepted.events:,} of {self._planned:,} events", min_width=60)
        for column in ("channel", "received", "delivered"):
            table.add_column(column, justify="left" if column == "channel" else "right")
        delivered = {} if ledger is None else ledger.delivered
        for channel in CHANNELS:
            table.add_row(channel, f"{arrived.get(channel, 0):,}", f"{delivered.get(channel, 0):,}")
        if ledger is not None:
            table.add_section()
            table.add_row("suppressed", "", f"{sum(ledger.suppressed.values()):,}")
            table.add_row("duplicate", "", f"{ledger.duplicates:,}")
            table.add_row("dead", "", f"{sum(ledger.dead.values()):,}")
            table.add_row("in flight", "", f"{ledger.in_flight:,}")
        return table
