"""What the stages on asyncio have in common: signals, a consumer, a producer."""

import asyncio
import signal
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager

from pipeline.adapters.kafka.consume import KafkaConsumer
from pipeline.adapters.kafka.produce import KafkaProducer
from pipeline.settings import Settings


@asynccontextmanager
async def until_told() -> AsyncGenerator[asyncio.Event]:
    """An event that SIGTERM and SIGINT set."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for signum in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(signum, stop.set)
    yield stop


@asynccontextmanager
async def consumer(settings: Settings, topics: Sequence[str], group: str) -> AsyncGenerator[KafkaConsumer]:
    """A place in a group. Raises DependencyDown."""
    found = await KafkaConsumer.open(
        settings.bootstrap_servers, topics, group=group, instance=settings.instance
    )
    try:
        yield found
    finally:
        await found.aclose()


@asynccontextmanager
async def producer(settings: Settings, stage: str) -> AsyncGenerator[KafkaProducer]:
    """A producer of this process. Raises DependencyDown."""
    found = await KafkaProducer.open(
        settings.bootstrap_servers, client_id=f"everpost.{stage}-{settings.instance}"
    )
    try:
        yield found
    finally:
        await found.aclose()
