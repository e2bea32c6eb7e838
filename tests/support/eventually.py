"""Waiting in a test: for a condition with a deadline, never for a time that hopes."""

import asyncio
from collections.abc import Awaitable, Callable


async def eventually(holds: Callable[[], Awaitable[object]], seconds: float = 60.0) -> None:
    """Return when the condition holds; TimeoutError after `seconds`."""
    async with asyncio.timeout(seconds):
        while not await holds():  # noqa: ASYNC110  # servers have no asyncio.Event
            await asyncio.sleep(0.05)
