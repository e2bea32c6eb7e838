"""The accountant, put together."""

import asyncio
from datetime import timedelta

from pipeline.adapters.postgres.log import PostgresLog
from pipeline.adapters.postgres.watch import Lead
from pipeline.observe import Meter
from pipeline.settings import Settings
from pipeline.stages.account import step as account
from pipeline.stages.account import watch
from pipeline.stages.account.decide import GROUP as ACCOUNT
from pipeline.wiring import Stage, loop, pool, wire
from pipeline.wiring.survey import survey

_HOURS = timedelta(hours=24)  # whose balance the watch looks at, by tenant and hour


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
        lead = Lead(connections)
        try:
            async with asyncio.TaskGroup() as tasks:
                watching = tasks.create_task(
                    watch.run(
                        lambda: survey(settings, connections, hours=_HOURS),
                        lead,
                        stop=stop,
                        every=settings.watch_every,
                        meter=Meter(),
                    )
                )
                await account.run(consumer, wire(settings), PostgresLog(connections), producer, stop=stop)
                watching.cancel()  # it may be in the middle of a look
        except ExceptionGroup as group:  # the stage's own error: then nobody watches unaware
            raise group.exceptions[0] from group
        finally:
            lead.close()
