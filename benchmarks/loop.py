"""A loop of sends with a number of them in flight, and what it costs this process."""

import asyncio
import resource
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import asdict, dataclass

import orjson

WARM = 0.1  # of the messages, not counted: imports, connections, caches


@dataclass(frozen=True, slots=True, kw_only=True)
class Figures:
    """What a contestant did and what that took it."""

    per_second: float  # messages
    cpu_us: float  # of its own process, for each message

    def to_json(self) -> str:
        """One line."""
        return orjson.dumps(asdict(self)).decode()

    @staticmethod
    def from_json(line: str) -> "Figures":
        """The figures in a line that `to_json` made."""
        return Figures(**orjson.loads(line))


async def timed(
    send: Callable[[str], Awaitable[object]], addresses: Sequence[str], messages: int, at_once: int
) -> Figures:
    """Send so many messages, `at_once` in flight."""
    warm = int(messages * WARM)
    await _loop(send, addresses, range(warm), at_once)
    began, used = time.perf_counter(), _cpu()
    await _loop(send, addresses, range(warm, messages), at_once)
    seconds, cpu = time.perf_counter() - began, _cpu() - used
    return Figures(per_second=(messages - warm) / seconds, cpu_us=cpu / (messages - warm) * 1e6)


async def _loop(
    send: Callable[[str], Awaitable[object]], addresses: Sequence[str], numbers: range, at_once: int
) -> None:
    left = iter(numbers)

    async def work() -> None:
        for number in left:
            await send(addresses[number % len(addresses)])

    async with asyncio.TaskGroup() as tasks:
        for _ in range(at_once):
            tasks.create_task(work())


def _cpu() -> float:
    """Seconds of processor time of this process so far."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime
