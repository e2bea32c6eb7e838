"""The holder, put together."""

import asyncio

from pipeline.adapters.postgres.timers import PostgresTimers
from pipeline.model.topics import HOLDS
from pipeline.observe import Meter
from pipeline.settings import Settings
from pipeline.stages.hold import step as hold
from pipeline.stages.hold.decide import GROUP as HOLD
from pipeline.wiring import Stage, clock, loop, pool, wire


def run(_stage: Stage, settings: Settings) -> None:
    """Run until SIGTERM or SIGINT."""
    asyncio.run(_hold(settings))


async def _hold(settings: Settings) -> None:
    async with (
        loop.until_told() as stop,
        pool(settings) as connections,
        loop.producer(settings, "hold") as producer,
        loop.consumer(settings, [HOLDS], HOLD) as consumer,
    ):
        holder = hold.Holder(
            consumer=consumer,
            producer=producer,
            wire=wire(settings),
            timers=PostgresTimers(connections),
            clock=clock,
            meter=Meter(),
        )
        await hold.run(holder, stop)
