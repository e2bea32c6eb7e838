"""A sender, put together."""

import asyncio
import gc
import random
from collections.abc import AsyncGenerator, Callable, Coroutine, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from importlib.metadata import entry_points

import asyncpg
import uvloop

from connectors.contract import BadOptions, Connector
from pipeline.adapters.postgres.breakers import Wish
from pipeline.adapters.postgres.profiles import PostgresProfiles
from pipeline.adapters.postgres.recalls import Fresh, PostgresRecalls
from pipeline.adapters.postgres.receipts import PostgresReceipts
from pipeline.adapters.render.liquid import Liquid
from pipeline.model.errors import ConfigurationError
from pipeline.model.event import Channel
from pipeline.model.ladder import scaled
from pipeline.model.recall import Recalls
from pipeline.observe import Meter
from pipeline.settings import Settings, connector_options
from pipeline.stages.send import step as send
from pipeline.stages.send.attempt import Tools
from pipeline.stages.send.records import group
from pipeline.stages.send.ways import Provider
from pipeline.wiring import Stage, catalogue, clock, links, loop, pool, wire

_COLLECT = 20_000  # objects more than before; Python's own 700 is met every ten messages


def run(stage: Stage, settings: Settings) -> None:
    """Send on the stage's channel until SIGTERM or SIGINT."""
    # What lives for one message is freed by its count; to look for cycles among what is in flight took 8 %.
    gc.freeze()
    gc.set_threshold(_COLLECT)
    uvloop.run(_send(settings, stage))  # 30 µs less a message than asyncio's own loop (0011)


async def _send(settings: Settings, stage: Stage) -> None:
    loaded = catalogue(settings)
    channel: Channel = stage.removeprefix("send-")  # pyright: ignore[reportAssignmentType] - one name per channel
    async with (
        loop.until_told() as stop,
        pool(settings, stateless=True) as connections,
        loop.producer(settings, stage) as producer,
        loop.consumer(settings, send.topics(channel), group(channel)) as consumer,
        _providers(settings, channel, connections) as providers,
        _recalls(connections) as recalls,
    ):
        tools = Tools(
            channel=channel,
            providers=providers,
            templates=loaded.templates,
            renderer=Liquid(),
            catalogue=loaded.types,
            wire=wire(settings),
            clock=clock,
            tiers=scaled(settings.retry_scale),
            send_timeout=settings.send_timeout,
            recalls=recalls,
            link=links(settings),
            receipts=None if settings.receipts is None else PostgresReceipts(connections),
        )
        sender = send.Sender(
            tools=tools,
            consumer=consumer,
            producer=producer,
            profiles=PostgresProfiles(connections),
            chance=random.random,  # noqa: TID251 - the composition root
            meter=Meter(),
            in_flight=settings.in_flight,
            instance=settings.instance,
            share=consumer.share,
        )
        await send.run(sender, stop)


@asynccontextmanager
async def _providers(
    settings: Settings, channel: Channel, connections: asyncpg.Pool
) -> AsyncGenerator[tuple[Provider, ...]]:
    """Those that the settings name for the channel, in their order."""
    async with AsyncExitStack() as open_:
        found = list[Provider]()
        for name, weight in settings.providers[channel].items():
            connector = await open_.enter_async_context(_connector(name, channel))
            orders = await open_.enter_async_context(_orders(connections, channel, connector.name))
            rate = settings.rates.get(name)
            found.append(Provider(connector=connector, weight=weight, rate=rate, orders=orders))
        yield tuple(found)


@asynccontextmanager
async def _connector(name: str, channel: Channel) -> AsyncGenerator[Connector]:
    """The connector of this name, made inside the running loop."""
    found = entry_points(group="everpost.connectors", name=name)
    if not found:
        raise ConfigurationError(f"no connector {name!r} for {channel}: see EVERPOST_PROVIDERS")
    create: Callable[[Mapping[str, str]], Connector] = next(iter(found)).load()
    try:
        connector = create(connector_options(name))
    except BadOptions as error:
        raise ConfigurationError(
            f"connector {name}: {error}; set EVERPOST_CONNECTOR_{name.upper()}_..."
        ) from error
    try:
        yield connector
    finally:
        await connector.aclose()


@asynccontextmanager
async def _recalls(connections: asyncpg.Pool) -> AsyncGenerator[Callable[[], Recalls]]:
    """The orders in force, kept fresh meanwhile; there before the first record is read."""
    fresh = Fresh(PostgresRecalls(connections))
    await fresh.refresh()
    async with _meanwhile(fresh.run()):
        yield fresh


@asynccontextmanager
async def _orders(connections: asyncpg.Pool, channel: Channel, provider: str) -> AsyncGenerator[Wish]:
    """What an operator wants of the breaker, kept fresh meanwhile."""
    wish = Wish(connections, channel, provider)
    await wish.refresh()
    async with _meanwhile(wish.run()):
        yield wish


@asynccontextmanager
async def _meanwhile(work: Coroutine[None, None, None]) -> AsyncGenerator[None]:
    try:
        async with asyncio.TaskGroup() as tasks:
            task = tasks.create_task(work)
            yield
            task.cancel()
    except ExceptionGroup as group:  # the stage's own error, or the task's: then nobody goes on unaware
        raise group.exceptions[0] from group
