"""The one limit of all sends: each has its own time, and nobody else's cancellation is swallowed."""

import asyncio

import pytest

from pipeline.stages.send.patience import Patience

LONG = 60.0  # seconds


async def test_what_ends_in_time_gives_its_value() -> None:
    """A value and an error come through, and nothing is left behind."""
    patience = Patience(LONG)

    async def fails() -> None:
        raise ValueError("mine")

    assert await patience.wait(asyncio.sleep(0, "yes")) == "yes"
    with pytest.raises(ValueError, match="mine"):
        await patience.wait(fails())
    assert len(patience) == 0


async def test_each_has_its_own_time() -> None:
    """Who starts later ends later; who is quick is not touched."""
    patience, loop = Patience(0.2), asyncio.get_running_loop()

    async def one(begin: float, lasts: float) -> float | str:
        await asyncio.sleep(begin)
        began = loop.time()
        try:
            return await patience.wait(asyncio.sleep(lasts, "done"))
        except TimeoutError:
            return loop.time() - began

    first, quick, second = await asyncio.gather(one(0, LONG), one(0.05, 0), one(0.15, LONG))
    assert quick == "done"
    assert isinstance(first, float)
    assert isinstance(second, float)
    assert min(first, second) >= 0.19
    assert await patience.wait(asyncio.sleep(0, "again")) == "again"
    assert len(patience) == 0


async def test_at_the_end_nobody_is_waited_for() -> None:
    """`end` is the last moment for all, and the task goes on after it."""
    patience = Patience(LONG)

    async def one() -> str:
        try:
            await patience.wait(asyncio.Event().wait())
        except TimeoutError:
            await asyncio.sleep(0)
            return "late"
        return "no"

    tasks = [asyncio.create_task(one()) for _ in range(3)]
    await asyncio.sleep(0)
    assert len(patience) == 3
    patience.end()
    patience.end()
    assert await asyncio.gather(*tasks) == ["late"] * 3
    assert all(task.cancelling() == 0 for task in tasks)


async def test_another_ones_cancellation_is_obeyed() -> None:
    """A task that is cancelled ends cancelled, also when its time is up at the same moment."""
    patience = Patience(LONG)
    tasks = [asyncio.create_task(patience.wait(asyncio.Event().wait())) for _ in range(2)]
    await asyncio.sleep(0)
    tasks[0].cancel()
    tasks[1].cancel()
    patience.end()
    ended = await asyncio.gather(*tasks, return_exceptions=True)
    assert all(isinstance(one, asyncio.CancelledError) for one in ended)
    assert len(patience) == 0
