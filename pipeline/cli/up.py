"""`everpost up`: Kafka, Postgres and every stage on this machine, until Ctrl-C. `everpost bootstrap`."""

import asyncio
import os
from dataclasses import asdict
from typing import Annotated

from cyclopts import Parameter
from pydantic import SecretStr
from rich.markup import escape

from infra.embedded import stack
from infra.embedded.console import Console
from pipeline import settings
from pipeline.cli.show import answer, say
from pipeline.cli.stages import bootstrap as make_ready
from pipeline.cli.stages import callbacks, configured, start_providers, start_stages, wait_for_providers
from pipeline.cli.wait import leave_on_sigterm, until_told


def up(
    *,
    kafka_port: Annotated[int | None, Parameter(help="default: a free one, the same again next time")] = None,
    postgres_port: Annotated[int | None, Parameter(help="default: a free one, the same next time")] = None,
    brokers: Annotated[int, Parameter(help="1, or 3: every record three times, one may be killed")] = 1,
) -> int:
    """Run Kafka, Postgres and every stage on this machine until Ctrl-C; data stays in EVERPOST_HOME.

    Messages go to local providers that speak the real protocols, unless EVERPOST_CONNECTOR_* variables
    name real ones. A second `everpost up` finds the first and says where it is.
    """
    current = settings.load()
    leave_on_sigterm()
    with (
        Console() as console,
        stack.up(
            current.home,
            kafka_port=kafka_port,
            postgres_port=postgres_port,
            brokers=brokers,
            report=console.line,
            progress=console.progress,
        ) as running,
    ):
        say(f"EVERPOST_BOOTSTRAP_SERVERS={running.bootstrap_servers}")
        say(f"EVERPOST_POSTGRES_DSN={running.postgres_dsn}")
        say(f"EVERPOST_REPLICATION={brokers}")
        if not running.owned:
            say("everpost is up already; nothing was started")
            return 0
        here = current.model_copy(
            update={
                "bootstrap_servers": running.bootstrap_servers,
                "postgres_dsn": SecretStr(running.postgres_dsn),
                "replication": brokers,
            }
        )
        options: dict[str, str] = {}
        if not configured(os.environ):
            directory = current.home / "providers"
            start_providers(running.supervisor, directory)
            providers = wait_for_providers(running.supervisor, directory)
            options = {**providers.options, **callbacks(here)}
            say(f"what the local providers received: {providers.control}/received")
        for line in asyncio.run(make_ready(here)).topics.drift:
            say(f"[yellow]{escape(line)}[/]")
        start_stages(running.supervisor, here, options)
        say(f"logs: {current.home / 'logs'}; Ctrl-C ends everything")
        until_told()
    return 0


def bootstrap(
    *, json: Annotated[bool, Parameter(help="print one JSON object on the last line")] = False
) -> int:
    """Create topics and tables on the Kafka and Postgres of the settings, and register the schemas.

    Schemas only when SCHEMA_REGISTRY_URL names a registry. Again is harmless. Exit code 1 when a topic
    differs in what is not changed by itself.
    """
    current = settings.load()
    done = asyncio.run(make_ready(current))
    if json:
        answer(asdict(done))
    else:
        say(f"{len(done.topics.created)} topics created, {len(done.topics.changed)} settings changed")
        for line in done.topics.drift:
            say(f"  {line}")
        if current.schema_registry_url is not None:
            say(f"{done.schemas} schemas are in the registry")
        say(f"migrations applied: {', '.join(map(str, done.migrations)) or 'none, all were there'}")
    return 1 if done.topics.drift else 0
