"""The relay, put together."""

import asyncio

from pipeline.adapters.postgres.outbox import PostgresOutbox
from pipeline.settings import Settings
from pipeline.stages.relay import step as relay
from pipeline.wiring import Stage, loop, pool


def run(_stage: Stage, settings: Settings) -> None:
    """Run until SIGTERM or SIGINT."""
    asyncio.run(_relay(settings))


async def _relay(settings: Settings) -> None:
    async with (
        loop.until_told() as stop,
        pool(settings) as connections,
        loop.producer(settings, "relay") as producer,
    ):
        outbox = PostgresOutbox(connections)
        try:
            await relay.run(outbox, producer, stop=stop)
        finally:
            await outbox.aclose()
