"""The conformance suite, second part: connections that last, crowds, and what is left of many sends."""

import asyncio
from dataclasses import replace
from pathlib import Path

import pytest

from connectors.contract import Accepted, InvalidAddress, Transient, Uncertain
from connectors.sandbox.faults import Fault
from connectors.sandbox.h2server import H2Server
from tests.contract import soak
from tests.contract.rigs import PATIENCE, Rig, bench, connections, until

pytestmark = pytest.mark.conformance
_CROWD = 50  # in flight while one times out
_LIMIT = 4.0  # seconds of the one that times out
_DEAD = 3000
_SENDS = 2000  # of the soak's short form; `python -m tests.contract.soak` is the long one


async def test_three_thousand_dead_addresses_on_one_connection(rig: Rig, certs: Path) -> None:
    """Refusals neither stall a connection nor cost another one."""
    # Over HTTP/2 they carry bodies, whose window would end after 2,427 of them if nobody acknowledged it.
    async with bench(rig, certs, limit=PATIENCE, options=rig.single) as running:
        running.fault(Fault(kind="dead"))
        for first in range(0, _DEAD, 100):
            for at in range(first, first + 100, rig.streams):
                outcomes = await asyncio.gather(*map(running.send, range(at, at + rig.streams)))
                assert all(isinstance(outcome, InvalidAddress) for outcome in outcomes)
            assert connections(running.provider.port) <= 1
        assert running.requests == _DEAD
        assert not isinstance(running.provider, H2Server) or running.provider.connections == 1


async def test_a_timeout_with_fifty_in_flight_harms_none_of_them(rig: Rig, certs: Path) -> None:
    """Who times out in a crowd takes nobody with it, and nothing is sent twice."""
    async with bench(rig, certs, limit=_LIMIT, options=rig.wide) as running:
        victim = await running.seen(0)
        running.fault(Fault(kind="delay", seconds=0.3, times=_CROWD))  # so that each opens its connection
        assert all(
            isinstance(outcome, Accepted)
            for outcome in await asyncio.gather(*map(running.send, range(1, _CROWD + 1)))
        )
        running.fault(Fault(kind="never", address=victim))
        running.fault(Fault(kind="delay", seconds=0.6 * _LIMIT))
        lost = asyncio.create_task(running.send(0))
        await until(lambda: running.requests == _CROWD + 2)
        await asyncio.sleep(_LIMIT / 2)  # from here the others have time until 1.5, their answers come at 1.1
        crowd = await asyncio.gather(*map(running.send, range(1, _CROWD + 1)))
        assert isinstance(await lost, Uncertain)
        assert all(isinstance(outcome, Accepted) for outcome in crowd)
        assert running.requests == 2 * (_CROWD + 1)


async def test_a_cancel_in_mid_transaction_does_not_poison_the_next(rig: Rig, certs: Path) -> None:
    """On an only connection, the answer to a cancelled send reaches nobody: the next two get their own."""
    async with bench(rig, certs, limit=PATIENCE, options=rig.single) as running:
        assert isinstance(await running.send(0), Accepted)
        running.fault(Fault(kind="delay", seconds=0.5, times=1))
        cancelled = asyncio.create_task(running.send(1))
        await until(lambda: running.requests == 2)
        cancelled.cancel()
        running.fault(replace(running.rig.busy, times=1))
        later = [await running.send(number) for number in (2, 3)]
        assert [type(outcome) for outcome in later] == [Transient, Accepted]
        assert cancelled.cancelled()
        assert running.requests == 4


async def test_nothing_is_left_of_many_sends(rig: Rig, local: soak.Local) -> None:
    """No task, no socket and no kilobyte a message, though every tenth address is dead."""
    left = await soak.run(rig, local, _SENDS)
    assert left.complaints() == []
