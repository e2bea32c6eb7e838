"""One limit for all that is under way: a timer for the oldest, where `asyncio.timeout` sets one for each.

A sender starts thousands of requests a second, and nearly all of them end long before their time.
"""

import asyncio
from collections.abc import Awaitable
from typing import TypeVar

T = TypeVar("T")


class Patience:
    """Waits at most `seconds` for each. Use it from one event loop."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._until: dict[asyncio.Task[object], float] = {}  # the oldest first
        self._late: set[asyncio.Task[object]] = set()
        self._timer: asyncio.TimerHandle | None = None
        self._loop: asyncio.AbstractEventLoop | None = None

    def __len__(self) -> int:
        """How many are under way."""
        return len(self._until)

    async def wait(self, work: Awaitable[T]) -> T:
        """What comes of the work. Raises TimeoutError when its time was up first. Once at a time in a task."""
        loop = self._loop = (
            self._loop or asyncio.get_running_loop()
        )  # each question asks the kernel who we are
        task = asyncio.current_task(loop)
        assert task is not None, "a coroutine runs in a task"
        before = task.cancelling()
        self._until[task] = loop.time() + self._seconds
        if self._timer is None:
            self._timer = loop.call_later(self._seconds, self._look)
        try:
            return await work
        except asyncio.CancelledError:
            # As asyncio.timeout has it: whoever else has cancelled the task is obeyed.
            if task in self._late and task.uncancel() <= before:
                raise TimeoutError from None
            raise
        finally:
            del self._until[task]
            self._late.discard(task)

    def end(self) -> None:
        """For all that are under way the time is up now."""
        for task in self._until:
            self._stop(task)

    def _look(self) -> None:
        loop = asyncio.get_running_loop()
        self._timer, now = None, loop.time()
        for task, until in self._until.items():
            if until > now:
                self._timer = loop.call_at(until, self._look)
                return
            self._stop(task)

    def _stop(self, task: asyncio.Task[object]) -> None:
        if task not in self._late:
            self._late.add(task)
            task.cancel()
