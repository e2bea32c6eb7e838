"""The pipeline on this machine: local providers, topics, tables, and a process for every stage."""

import asyncio
import json
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from infra.embedded.supervisor import Supervisor
from pipeline.adapters.kafka.admin import Report, apply
from pipeline.adapters.postgres.migrate import migrate
from pipeline.adapters.postgres.pool import session
from pipeline.adapters.wire.registry import register_all
from pipeline.model.errors import DependencyDown
from pipeline.model.topics import table
from pipeline.settings import CONNECTOR_PREFIX, Settings
from pipeline.wiring import STAGES, pool

_SANDBOX = "providers"  # the program's name
_START = 30.0  # seconds until the local providers listen


@dataclass(frozen=True, slots=True, kw_only=True)
class Providers:
    """The local providers, as they wrote it down."""

    directory: Path
    control: str  # URL of their control door
    options: Mapping[str, str]  # EVERPOST_CONNECTOR_* that point the connectors at them


@dataclass(frozen=True, slots=True, kw_only=True)
class Bootstrapped:
    """What `bootstrap` changed."""

    topics: Report
    schemas: int  # registered, under all subjects; 0 without a registry
    migrations: tuple[int, ...]


async def bootstrap(current: Settings) -> Bootstrapped:
    """Create topics and tables, and register the schemas with the registry, if there is one.

    Doing it again changes nothing. Raises DependencyDown, ConfigurationError.
    """
    wanted, url = table(current.partitions), current.schema_registry_url
    report = await asyncio.to_thread(apply, current.bootstrap_servers, wanted, current.replication)
    schemas = () if url is None else await asyncio.to_thread(register_all, url, wanted)
    async with pool(current) as connections, session(connections) as connection:
        migrations = tuple(await migrate(connection))
    return Bootstrapped(topics=report, schemas=len(schemas), migrations=migrations)


def start_providers(supervisor: Supervisor, directory: Path) -> None:
    """Run the local providers; `wait_for_providers` tells when they listen."""
    (directory / "sandboxes.json").unlink(missing_ok=True)  # what an earlier run wrote
    supervisor.add(_SANDBOX, (sys.executable, "-m", "connectors.sandbox", "--dir", str(directory)))


def wait_for_providers(supervisor: Supervisor, directory: Path) -> Providers:
    """Where the local providers listen. Raises DependencyDown when they do not within 30 s."""
    ready, deadline = directory / "sandboxes.json", time.monotonic() + _START
    while not ready.exists():
        if time.monotonic() > deadline:
            raise DependencyDown(f"the local providers do not listen: see {supervisor.log(_SANDBOX)}")
        time.sleep(0.05)
    found: dict[str, Any] = json.loads(ready.read_text(encoding="utf-8"))
    return Providers(directory=directory, control=found["control"], options=found["options"])


def start_stages(supervisor: Supervisor, current: Settings, options: Mapping[str, str]) -> None:
    """Run one process of every stage; each finds Kafka, Postgres and its provider by its environment."""
    environment = {**surroundings(current), **options}
    stages = STAGES if current.receipts is None else (*STAGES, "receipts")
    for stage in stages:
        supervisor.add(stage, (sys.executable, "-m", "pipeline.cli.main", "run", stage), environment)


def callbacks(current: Settings) -> dict[str, str]:
    """The options by which local providers send their receipts to the stage that listens for them."""
    if current.receipts is None:
        return {}
    return {
        "EVERPOST_CONNECTOR_VONAGE_CALLBACK": f"https://{current.receipts}/receipts/vonage",
        "EVERPOST_CONNECTOR_TWILIO_STATUS_CALLBACK": f"https://{current.receipts}/receipts/twilio",
    }


def surroundings(current: Settings) -> dict[str, str]:
    """The environment by which a stage's process finds Kafka and Postgres."""
    registry = current.schema_registry_url
    return {
        "EVERPOST_HOME": str(current.home),
        "EVERPOST_BOOTSTRAP_SERVERS": current.bootstrap_servers,
        "EVERPOST_POSTGRES_DSN": current.postgres_dsn.get_secret_value(),
        "EVERPOST_PARTITIONS": str(current.partitions),
        "EVERPOST_RETRY_SCALE": str(current.retry_scale),
        **({} if registry is None else {"SCHEMA_REGISTRY_URL": registry}),
    }


def configured(environment: Mapping[str, str]) -> bool:
    """Whether the operator has named providers of their own."""
    return any(name.startswith(CONNECTOR_PREFIX) for name in environment)
