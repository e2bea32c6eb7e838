"""The gate of a channel: one probe at a time, and nobody waits who has lost the record."""

import asyncio

import pytest

from pipeline.stages.send.pause import Abandoned, Gate


async def test_open_lets_all_pass() -> None:
    """Without a fault nobody probes and nobody waits."""
    gate = Gate("apns", lambda: 0.5)
    assert [await gate.enter(lambda: True) for _ in range(3)] == [False] * 3


async def test_one_probe_at_a_time() -> None:
    """While a gate is closed one record probes; when it leaves without an answer, the next one does."""
    gate = Gate("apns", lambda: 0.5, first_wait=0.001)
    gate.fault("set the key", "403", probe=False)
    waiting = [asyncio.create_task(gate.enter(lambda: True)) for _ in range(3)]
    done, others = await asyncio.wait(waiting, timeout=0.05)
    assert [task.result() for task in done] == [True]
    gate.leave()
    done, others = await asyncio.wait(others, timeout=0.3)
    assert [task.result() for task in done] == [True]
    gate.passed()
    gate.leave()
    assert [await task for task in others] == [False]
    assert not gate.closed


async def test_waits_grow_with_failed_probes_only() -> None:
    """Stragglers that bring the same fault do not count; each probe that fails doubles the wait."""
    waits: list[float] = []
    loop = asyncio.get_running_loop()
    gate = Gate("apns", lambda: 1.0, first_wait=0.01)
    gate.fault("set the key", "403", probe=False)
    for _ in range(4):
        for _ in range(10):
            gate.fault("set the key", "403", probe=False)
        began = loop.time()
        assert await gate.enter(lambda: True)
        waits.append(loop.time() - began)
        gate.fault("set the key", "403", probe=True)
        gate.leave()
    assert all(wait >= 0.01 * 2**n * 0.99 for n, wait in enumerate(waits))
    assert waits[0] < 0.05


async def test_who_has_lost_the_record_leaves() -> None:
    """A record that is taken away ends its wait, as probe and behind one, and the next one may probe."""
    gate = Gate("apns", lambda: 1.0, first_wait=30.0)
    gate.fault("set the key", "403", probe=False)
    owned = True
    waiting = [asyncio.create_task(gate.enter(lambda: owned)) for _ in range(2)]
    await asyncio.sleep(0)
    owned = False
    for task in waiting:
        with pytest.raises(Abandoned):
            await asyncio.wait_for(task, 2)
    assert gate.closed
