"""What a start says to a person: lines, and a bar while files are fetched. All on standard error."""

import sys
import time
from threading import Lock
from types import TracebackType
from typing import Self

from rich.console import Console as Terminal
from rich.progress import (
    BarColumn,
    DownloadColumn,
    Progress,
    TaskID,
    TimeRemainingColumn,
    TransferSpeedColumn,
)

EVERY = 5.0  # seconds between two lines where no bar can move


class Console:
    """Lines and progress for standard error: a moving bar at a terminal, a line now and then elsewhere."""

    def __init__(self) -> None:
        self._terminal = Terminal(file=sys.stderr, highlight=False)
        self._bar: Progress | None = None
        self._tasks: dict[str, TaskID] = {}
        self._said_at = 0.0
        self._lock = Lock()  # downloads and services report from their own threads

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._end_bar()

    def line(self, text: str) -> None:
        """Say one thing."""
        self._terminal.print(text, markup=False, soft_wrap=True)

    def progress(self, label: str, done: int, total: int) -> None:
        """Bytes `done` of `total` are there."""
        with self._lock:
            if self._terminal.is_terminal:
                self._move(label, done, total)
            elif done >= total or time.monotonic() - self._said_at >= EVERY:
                self._said_at = time.monotonic()
                self.line(f"fetching {label}: {done / 1e6:.0f} of {total / 1e6:.0f} MB")

    def _move(self, label: str, done: int, total: int) -> None:
        if self._bar is None:
            columns = (BarColumn(), DownloadColumn(), TransferSpeedColumn(), TimeRemainingColumn())
            self._bar = Progress(
                "fetching {task.description}", *columns, console=self._terminal, transient=True
            )
            self._bar.start()
        if label not in self._tasks:
            self._tasks[label] = self._bar.add_task(label, total=total)
        self._bar.update(self._tasks[label], completed=done)
        if self._bar.finished:
            self._end_bar()

    def _end_bar(self) -> None:
        if self._bar is not None:
            self._bar.stop()
        self._bar = None
        self._tasks.clear()
