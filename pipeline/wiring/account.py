"""The accountant, put together."""

import asyncio

from pipeline.adapters.postgres.log import PostgresLog
from pipeline.settings import Settings
from pipeline.stages.account import step as account
from pipeline.stages.account.decide import GROUP as ACCOUNT
from pipeline.wiring import Stage, loop, pool, wire


def run(_stage: Stage, settings: Settings) -> None:
    """Run until SIGTERM or SIGINT."""
    asyncio.run(_account(settings))


async def _account(settings: Settings) -> None:
    async with (
        loop.until_told() as stop,
        pool(settings) as connections,
        loop.producer(settings, "account") as producer,
        loop.consumer(settings, account.TOPICS, ACCOUNT) as consumer,
    ):
        await account.run(consumer, wire(settings), PostgresLog(connections), producer, stop=stop)
