"""The composition root: it joins stages, adapters and settings, and is the only place that knows everybody.

Here are the process's clock, its signals and its exit code; nothing is read or connected at import. Each
stage is put together in a module of its own, imported when it runs: all of them together take 0.9 s.
"""

import asyncio
from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from importlib import import_module
from pathlib import Path
from typing import Literal, get_args

import asyncpg

from pipeline.adapters.files.catalogue import Loaded, load
from pipeline.adapters.kafka.ends import begin_offsets, end_offsets
from pipeline.adapters.links import Links
from pipeline.adapters.postgres.ledger import books
from pipeline.adapters.postgres.pool import close, connect
from pipeline.adapters.telemetry import exported
from pipeline.adapters.wire.codec import Wire
from pipeline.adapters.wire.ids import LockFile
from pipeline.model.errors import EverpostError
from pipeline.model.event import LANES
from pipeline.model.ledger import Ledger, balance
from pipeline.model.topics import DECISIONS, RELEASED, events, table
from pipeline.observe import Log, configure_logs, heartbeat
from pipeline.settings import Settings

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
    "receipts",
]
# What always runs; receipts come in only where EVERPOST_RECEIPTS says so.
STAGES: tuple[Stage, ...] = tuple(stage for stage in get_args(Stage) if stage != "receipts")

# Where each is put together, by `run(stage, settings)`.
_MODULES: Mapping[Stage, str] = {
    "relay": "relay",
    "route": "route",
    "hold": "hold",
    "send-apns": "send",
    "send-fcm": "send",
    "send-webpush": "send",
    "send-sms": "send",
    "send-email": "send",
    "retry": "retry",
    "account": "account",
    "receipts": "receipts",
}

_log = Log(__name__)
_DEMO = Path(__file__).parent.parent.parent / "infra" / "demo" / "catalogue"


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
    # Its client alone takes 0.25 s to import, and few have a registry.
    registry = import_module("pipeline.adapters.wire.registry")
    return Wire(registry.RegistryIds(settings.schema_registry_url, table(settings.partitions)))


def links(settings: Settings) -> Links | None:
    """What makes and reads unsubscribe links, when mails have them. Raises ConfigurationError."""
    keys = settings.unsubscribe_keys.get_secret_value()
    if settings.unsubscribe_url is None:
        return None
    return Links(settings.unsubscribe_url, [key.strip() for key in keys.split(",") if key.strip()])


def run_stage(name: Stage, settings: Settings) -> int:
    """Run a stage until SIGTERM or SIGINT. Gives the exit code: 0, 75 (try again) or 78 (configuration)."""
    configure_logs(stage=name, level=settings.log_level)
    try:
        heartbeat.configure(settings.heartbeat)
        with exported(name, settings.instance):
            import_module(f"pipeline.wiring.{_MODULES[name]}").run(name, settings)
    except EverpostError as error:
        _log.error("stage.failed", error=str(error), retriable=error.retriable)
        return 75 if error.retriable else 78
    return 0


@asynccontextmanager
async def pool(settings: Settings, *, stateless: bool = False) -> AsyncGenerator[asyncpg.Pool]:
    """Connections to Postgres. Raises DependencyDown."""
    found = await connect(settings.postgres_dsn.get_secret_value(), stateless=stateless)
    try:
        yield found
    finally:
        await close(found)


async def close_books(settings: Settings) -> Ledger:
    """The ledger of this moment. Raises DependencyDown."""
    async with pool(settings) as connections:
        return await closed_books(settings, connections)


async def closed_books(settings: Settings, connections: asyncpg.Pool) -> Ledger:
    """The ledger of this moment, asked on these connections. Raises DependencyDown."""
    names, servers = [events(lane) for lane in LANES], settings.bootstrap_servers
    # Kafka first: what comes between the two questions is then simply in flight.
    begins = await asyncio.to_thread(begin_offsets, servers, [*names, RELEASED, DECISIONS])
    ends = await asyncio.to_thread(end_offsets, servers, names)
    return balance(await books(connections), ends, begins)
