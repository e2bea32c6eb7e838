"""The retrier, put together."""

import asyncio

from pipeline.adapters.postgres.tiers import PostgresTiers
from pipeline.model.ladder import scaled
from pipeline.observe import Meter
from pipeline.settings import Settings
from pipeline.stages.retry import step as retry
from pipeline.wiring import Stage, clock, loop, pool, wire


def run(_stage: Stage, settings: Settings) -> None:
    """Run until SIGTERM or SIGINT."""
    asyncio.run(_retry(settings))


async def _retry(settings: Settings) -> None:
    tiers = scaled(settings.retry_scale)
    async with (
        loop.until_told() as stop,
        pool(settings) as connections,
        loop.producer(settings, "retry") as producer,
        loop.consumer(settings, retry.topics(tiers), retry.GROUP) as consumer,
    ):
        retrier = retry.Retrier(
            consumer=consumer,
            producer=producer,
            wire=wire(settings),
            clock=clock,
            tiers=tiers,
            meter=Meter(),
            leaving=PostgresTiers(connections).leaving,
        )
        await retry.run(retrier, stop)
