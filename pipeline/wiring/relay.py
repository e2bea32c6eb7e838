"""The relay, put together."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

from pipeline.adapters.kafka.batches import BatchProducer
from pipeline.adapters.kafka.bulk import COMPILED
from pipeline.adapters.postgres.outbox import PostgresOutbox
from pipeline.ports import RowProducer
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
        _producer(settings) as producer,
    ):
        outbox = PostgresOutbox(connections)
        try:
            await relay.run(outbox, producer, stop=stop)
        finally:
            await outbox.aclose()


@asynccontextmanager
async def _producer(settings: Settings) -> AsyncGenerator[RowProducer]:
    """The fast one, where it could be compiled. Raises DependencyDown."""
    if not COMPILED:
        async with loop.producer(settings, "relay") as slow:
            yield slow
        return
    fast = await BatchProducer.open(
        settings.bootstrap_servers, client_id=f"everpost.relay-{settings.instance}"
    )
    try:
        yield fast
    finally:
        await fast.aclose()
