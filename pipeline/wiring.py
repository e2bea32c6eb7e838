"""The one file that knows everybody: it joins stages, adapters and settings.

Here are the process's clock, its signals and its exit code; nothing is read or connected at import.
"""

import asyncio
import gc
import random
import signal
import threading
from collections.abc import AsyncGenerator, Callable, Collection, Coroutine, Generator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from importlib.metadata import entry_points
from pathlib import Path
from typing import Literal

import asyncpg

from connectors.contract import BadOptions, Connector
from pipeline.adapters.files.catalogue import Loaded, load
from pipeline.adapters.kafka.admin import topic_id
from pipeline.adapters.kafka.consume import KafkaConsumer
from pipeline.adapters.kafka.ends import begin_offsets, end_offsets
from pipeline.adapters.kafka.grow import require_alike
from pipeline.adapters.kafka.produce import KafkaProducer
from pipeline.adapters.kafka.readback import read_back
from pipeline.adapters.kafka.transact import Transactor
from pipeline.adapters.postgres.changes import ProfileChanges
from pipeline.adapters.postgres.ledger import books
from pipeline.adapters.postgres.log import PostgresLog
from pipeline.adapters.postgres.outbox import PostgresOutbox
from pipeline.adapters.postgres.pool import close, connect
from pipeline.adapters.postgres.profiles import PostgresProfiles
from pipeline.adapters.postgres.recalls import Fresh, PostgresRecalls
from pipeline.adapters.postgres.timers import PostgresTimers
from pipeline.adapters.render.liquid import Liquid
from pipeline.adapters.rocks.store import RocksStore
from pipeline.adapters.telemetry import exported
from pipeline.adapters.wire.codec import Wire
from pipeline.adapters.wire.ids import LockFile
from pipeline.adapters.wire.registry import RegistryIds
from pipeline.model.errors import ConfigurationError, EverpostError
from pipeline.model.event import LANES, Channel
from pipeline.model.ladder import scaled
from pipeline.model.ledger import Ledger, balance
from pipeline.model.profile import Profile
from pipeline.model.recall import Recalls
from pipeline.model.topics import DECISIONS, HOLDS, RELEASED, WINDOW, events, table
from pipeline.observe import Log, Meter, configure_logs, heartbeat
from pipeline.ports import UserKey
from pipeline.settings import Settings, connector_options
from pipeline.stages.account import step as account
from pipeline.stages.account.decide import GROUP as ACCOUNT
from pipeline.stages.hold import step as hold
from pipeline.stages.hold.decide import GROUP as HOLD
from pipeline.stages.relay import step as relay
from pipeline.stages.retry import step as retry
from pipeline.stages.route import step as route
from pipeline.stages.route.people import People
from pipeline.stages.route.records import GROUP
from pipeline.stages.route.state import RouterState
from pipeline.stages.send import step as send
from pipeline.stages.send.attempt import Tools
from pipeline.stages.send.records import group

Stage = Literal[
    "relay",
    "route",
    "hold",
    "send-apns",
    "send-fcm",
    "send-webpush",
    "send-sms",
    "send-email",
    "retry",
    "account",
]
RunStage = Callable[[Settings], None]

_log = Log(__name__)
_DEMO = Path(__file__).parent.parent / "infra" / "demo" / "catalogue"


def clock() -> datetime:
    """The time of day, aware, UTC: the only place where a stage's time comes from."""
    return datetime.now(UTC)  # noqa: TID251 - the composition root


def catalogue(settings: Settings) -> Loaded:
    """The types and templates that this process works with. Raises ConfigurationError."""
    return load(settings.catalogue or _DEMO)


def wire(settings: Settings) -> Wire:
    """The codec, with ids from the registry when one is configured. Asks nothing yet."""
    if settings.schema_registry_url is None:
        return Wire(LockFile())
    return Wire(RegistryIds(settings.schema_registry_url, table(settings.partitions)))


def run_stage(name: Stage, settings: Settings) -> int:
    """Run a stage until SIGTERM or SIGINT. Gives the exit code: 0, 75 (try again) or 78 (configuration)."""
    configure_logs(stage=name, level=settings.log_level)
    try:
        heartbeat.configure(settings.heartbeat)
        with exported(name, settings.instance):
            STAGES[name](settings)
    except EverpostError as error:
        _log.error("stage.failed", error=str(error), retriable=error.retriable)
        return 75 if error.retriable else 78
    return 0


def _route(settings: Settings) -> None:
    stop = threading.Event()
    for signum in (signal.SIGTERM, signal.SIGINT):
        signal.signal(signum, lambda _number, _frame: stop.set())
    servers, codec = settings.bootstrap_servers, wire(settings)
    require_alike(servers, [*route.TOPICS, HOLDS, DECISIONS, WINDOW])
    with _facts(settings) as (profiles, recalls), _store(settings) as store:
        state = RouterState(store, partial(read_back, servers, WINDOW), partial(_ends, servers), clock)
        transactor = Transactor(
            servers, group=GROUP, instance=settings.instance, topics=route.TOPICS, state=state
        )
        router = route.Router(
            transactions=transactor,
            state=state,
            wire=codec,
            people=People(profiles),
            catalogue=catalogue(settings).types,
            recalls=recalls,
            clock=clock,
            meter=Meter(),
            batch=settings.batch,
        )
        transactor.start()
        # A batch makes 100,000 objects that live as long as it does; the collector's default of 700 walks them
        # hundreds of times and finds no cycle: a quarter of the router's processor time.
        gc.freeze()
        gc.set_threshold(200_000)
        try:
            route.run(router, stop)
        finally:
            transactor.close()


def _ends(servers: str) -> Mapping[int, int]:
    """Where the window's partitions end."""
    return {partition: end for (_, partition), end in end_offsets(servers, [WINDOW]).items()}


@contextmanager
def _store(settings: Settings) -> Generator[RocksStore]:
    """The router's copy of the window, apart for every log and process."""
    log = topic_id(settings.bootstrap_servers, WINDOW)
    store = RocksStore(settings.home / "router" / settings.instance / log)
    try:
        yield store
    finally:
        store.close()


@dataclass(frozen=True, slots=True, kw_only=True)
class _Profiles:
    """Profiles for a stage without an event loop of its own."""

    runner: asyncio.Runner
    profiles: PostgresProfiles
    changes: ProfileChanges

    def changed(self) -> Collection[UserKey] | None:
        """Who has changed."""
        return self.runner.run(self.changes.since_last())

    def fetch(self, users: Sequence[UserKey]) -> Mapping[UserKey, Profile]:
        """The profiles of these."""
        return self.runner.run(self.profiles.fetch(users))


@contextmanager
def _facts(settings: Settings) -> Generator[tuple[_Profiles, Callable[[], Recalls]]]:
    """Profiles and recalls for a stage without an event loop of its own: one loop, entered for each batch."""
    with asyncio.Runner() as runner:
        pool = runner.run(connect(settings.postgres_dsn.get_secret_value(), size=2))
        orders = Fresh(PostgresRecalls(pool))

        def recalls() -> Recalls:
            return runner.run(orders.refresh())

        try:
            yield (
                _Profiles(runner=runner, profiles=PostgresProfiles(pool), changes=ProfileChanges(pool)),
                recalls,
            )
        finally:
            runner.run(close(pool))


@asynccontextmanager
async def _until_told() -> AsyncGenerator[asyncio.Event]:
    """An event that SIGTERM and SIGINT set."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for signum in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(signum, stop.set)
    yield stop


async def _relay(settings: Settings) -> None:
    async with _until_told() as stop, pool(settings) as connections, _producer(settings, "relay") as producer:
        outbox = PostgresOutbox(connections)
        try:
            await relay.run(outbox, producer, stop=stop)
        finally:
            await outbox.aclose()


async def _hold(settings: Settings) -> None:
    async with (
        _until_told() as stop,
        pool(settings) as connections,
        _producer(settings, "hold") as producer,
        _consumer(settings, [HOLDS], HOLD) as consumer,
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


async def _send(settings: Settings, *, channel: Channel) -> None:
    loaded = catalogue(settings)
    stage: Stage = f"send-{channel}"  # pyright: ignore[reportAssignmentType] - one name per channel
    async with (
        _until_told() as stop,
        pool(settings) as connections,
        _producer(settings, stage) as producer,
        _consumer(settings, send.topics(channel), group(channel)) as consumer,
        _connector(settings, channel) as connector,
        _recalls(connections) as recalls,
    ):
        tools = Tools(
            channel=channel,
            connector=connector,
            templates=loaded.templates,
            renderer=Liquid(),
            catalogue=loaded.types,
            wire=wire(settings),
            clock=clock,
            tiers=scaled(settings.retry_scale),
            send_timeout=settings.send_timeout,
            recalls=recalls,
        )
        sender = send.Sender(
            tools=tools,
            consumer=consumer,
            producer=producer,
            profiles=PostgresProfiles(connections),
            chance=random.random,  # noqa: TID251 - the composition root
            meter=Meter(),
            in_flight=min(settings.in_flight, connector.capacity),
        )
        await send.run(sender, stop)


async def _retry(settings: Settings) -> None:
    tiers = scaled(settings.retry_scale)
    async with (
        _until_told() as stop,
        _producer(settings, "retry") as producer,
        _consumer(settings, retry.topics(tiers), retry.GROUP) as consumer,
    ):
        retrier = retry.Retrier(
            consumer=consumer, producer=producer, wire=wire(settings), clock=clock, tiers=tiers, meter=Meter()
        )
        await retry.run(retrier, stop)


async def _account(settings: Settings) -> None:
    async with (
        _until_told() as stop,
        pool(settings) as connections,
        _producer(settings, "account") as producer,
        _consumer(settings, account.TOPICS, ACCOUNT) as consumer,
    ):
        await account.run(consumer, wire(settings), PostgresLog(connections), producer, stop=stop)


@asynccontextmanager
async def _connector(settings: Settings, channel: Channel) -> AsyncGenerator[Connector]:
    """The connector that the settings name for the channel, made inside the running loop."""
    name = settings.providers.get(channel, "")
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
    try:
        async with asyncio.TaskGroup() as tasks:
            task = tasks.create_task(fresh.run())
            yield fresh
            task.cancel()
    except ExceptionGroup as group:  # the stage's own error, or the task's: then nobody goes on unaware
        raise group.exceptions[0] from group


@asynccontextmanager
async def _consumer(settings: Settings, topics: Sequence[str], group: str) -> AsyncGenerator[KafkaConsumer]:
    consumer = await KafkaConsumer.open(
        settings.bootstrap_servers, topics, group=group, instance=settings.instance
    )
    try:
        yield consumer
    finally:
        await consumer.aclose()


@asynccontextmanager
async def pool(settings: Settings) -> AsyncGenerator[asyncpg.Pool]:
    """Connections to Postgres. Raises DependencyDown."""
    found = await connect(settings.postgres_dsn.get_secret_value())
    try:
        yield found
    finally:
        await close(found)


async def close_books(settings: Settings) -> Ledger:
    """The ledger of this moment. Raises DependencyDown."""
    names, servers = [events(lane) for lane in LANES], settings.bootstrap_servers
    # Kafka first: what comes between the two questions is then simply in flight.
    begins = await asyncio.to_thread(begin_offsets, servers, [*names, RELEASED, DECISIONS])
    ends = await asyncio.to_thread(end_offsets, servers, names)
    async with pool(settings) as connections:
        return balance(await books(connections), ends, begins)


@asynccontextmanager
async def _producer(settings: Settings, stage: str) -> AsyncGenerator[KafkaProducer]:
    producer = await KafkaProducer.open(
        settings.bootstrap_servers, client_id=f"everpost.{stage}-{settings.instance}"
    )
    try:
        yield producer
    finally:
        await producer.aclose()


def _on_a_loop(run: Callable[[Settings], Coroutine[None, None, None]]) -> RunStage:
    """An asyncio stage as a plain function."""
    return lambda settings: asyncio.run(run(settings))


STAGES: Mapping[Stage, RunStage] = {
    "relay": _on_a_loop(_relay),
    "route": _route,
    "hold": _on_a_loop(_hold),
    "send-apns": _on_a_loop(partial(_send, channel="apns")),
    "send-fcm": _on_a_loop(partial(_send, channel="fcm")),
    "send-webpush": _on_a_loop(partial(_send, channel="webpush")),
    "send-sms": _on_a_loop(partial(_send, channel="sms")),
    "send-email": _on_a_loop(partial(_send, channel="email")),
    "retry": _on_a_loop(_retry),
    "account": _on_a_loop(_account),
}
