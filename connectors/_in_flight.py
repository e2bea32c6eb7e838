"""The sends that are under way, so that `aclose` can let them finish."""

import asyncio
from types import TracebackType


class InFlight:
    """A counter of sends: `with in_flight:` around each; `drained()` waits for the last one."""

    def __init__(self) -> None:
        self._count = 0
        self._idle = asyncio.Event()
        self._idle.set()
        self.closed = False

    def __enter__(self) -> None:
        self._count += 1
        self._idle.clear()

    def __exit__(
        self, _kind: type[BaseException] | None, _error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        self._count -= 1
        if self._count == 0:
            self._idle.set()

    async def drained(self) -> None:
        """Return when no send is under way. Every send has a timeout, and so has this."""
        self.closed = True
        await self._idle.wait()
