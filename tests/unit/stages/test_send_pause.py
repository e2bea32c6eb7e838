"""The gates of a channel: one probe at a time, and nobody waits who has lost the record."""

import asyncio

import pytest

from pipeline.stages.send.pause import Abandoned
from pipeline.stages.send.ways import Pass, Provider, Ways
from tests.support.sending import ScriptedConnector, delivery

HERS = delivery()


def one_way(chance: float = 0.5, first_wait: float = 1.0) -> Ways:
    """A channel with one provider."""
    return Ways("apns", (Provider(connector=ScriptedConnector()),), lambda: chance, first_wait)


async def enter(ways: Ways) -> bool:
    """Whether it enters as a probe."""
    return (await ways.enter(HERS, lambda: True)).probe


async def test_open_lets_all_pass() -> None:
    """Without a fault nobody probes and nobody waits."""
    ways = one_way()
    assert [await enter(ways) for _ in range(3)] == [False] * 3


async def test_one_probe_at_a_time() -> None:
    """While a gate is closed one record probes; when it leaves without an answer, the next one does."""
    ways = one_way(first_wait=0.001)
    gate = ways.all[0].gate
    gate.fault("set the key", "403", probe=False)
    waiting = {asyncio.create_task(enter(ways)) for _ in range(3)}
    for _ in range(2):
        done, waiting = await asyncio.wait(waiting, timeout=60, return_when=asyncio.FIRST_COMPLETED)
        assert [task.result() for task in done] == [True]
        assert not (await asyncio.wait(waiting, timeout=0.3))[0]
        gate.leave()
    gate.passed()
    assert [await task for task in waiting] == [False]
    assert not gate.closed


async def test_waits_grow_with_failed_probes_only() -> None:
    """Stragglers that bring the same fault do not count; each probe that fails doubles the wait."""
    waits: list[float] = []
    ways = one_way(chance=1.0, first_wait=10.0)
    gate = ways.all[0].gate
    gate.fault("set the key", "403", probe=False)
    for _ in range(4):
        for _ in range(10):
            gate.fault("set the key", "403", probe=False)
        waits.append(gate.wait())
        gate.fault("set the key", "403", probe=True)
    assert [round(wait, -1) for wait in waits] == [10, 20, 40, 60]


async def test_who_has_lost_the_record_leaves() -> None:
    """A record that is taken away ends its wait."""
    ways = one_way(first_wait=30.0)
    ways.all[0].gate.fault("set the key", "403", probe=False)
    owned = True
    waiting: list[asyncio.Task[Pass]] = [
        asyncio.create_task(ways.enter(HERS, lambda: owned)) for _ in range(2)
    ]
    await asyncio.sleep(0)
    owned = False
    for task in waiting:
        with pytest.raises(Abandoned):
            await asyncio.wait_for(task, 60)
    assert ways.closed
