"""Places at a connector: never more than there are, urgent ones first, and none is lost."""

import asyncio
import random

from hypothesis import given
from hypothesis import strategies as st

from pipeline.model.event import LANES, Lane
from pipeline.stages.send.places import Places


@given(
    st.integers(1, 12),
    st.lists(st.tuples(st.sampled_from(LANES), st.booleans()), max_size=40),
    st.integers(0, 1000),
)
def test_places_are_bounded_and_none_is_lost(
    count: int, comers: list[tuple[Lane, bool]], chance: int
) -> None:
    """However many come, some giving up while they wait: never more than `count` inside, and all are free after."""
    asyncio.run(_crowd(count, comers, random.Random(chance)))


async def _crowd(count: int, comers: list[tuple[Lane, bool]], chance: random.Random) -> None:
    places, inside = Places(count), 0

    async def come(lane: Lane) -> None:
        nonlocal inside
        await places.take(lane)
        inside += 1
        assert inside <= count
        for _ in range(chance.randrange(3)):
            await asyncio.sleep(0)
        inside -= 1
        places.leave()

    tasks = [asyncio.create_task(come(lane)) for lane, _ in comers]
    for task, (_, gives_up) in zip(tasks, comers, strict=True):
        await asyncio.sleep(0)
        if gives_up and inside == count:
            await _give_up(task)
    await asyncio.wait_for(asyncio.gather(*tasks, return_exceptions=True), 60)
    for _ in range(count):
        await asyncio.wait_for(places.take("urgent"), 60)


async def _give_up(task: "asyncio.Task[None]") -> None:
    """Cancel it only while it waits for a place: one who is inside leaves by itself."""
    waits = getattr(task.get_coro(), "cr_await", None)
    if getattr(waits, "__qualname__", "") == "Places.take":
        task.cancel()


async def test_an_urgent_delivery_does_not_stand_behind_a_broadcast() -> None:
    """The next place that comes free is its own, and a broadcast alone never has more than half."""
    places, got = Places(4), list[Lane]()

    async def come(lane: Lane) -> None:
        await places.take(lane)
        got.append(lane)

    waiting = [asyncio.create_task(come("bulk")) for _ in range(5)]
    await asyncio.sleep(0)
    assert got == ["bulk"] * 2
    waiting += [asyncio.create_task(come("urgent")) for _ in range(3)]
    await asyncio.sleep(0)
    assert got == ["bulk"] * 2 + ["urgent"] * 2
    places.leave()
    await asyncio.sleep(0)
    assert got[4:] == ["urgent"]
    for task in waiting:
        task.cancel()
    await asyncio.gather(*waiting, return_exceptions=True)
