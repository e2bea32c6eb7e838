"""Everything that a run needs, up: three brokers, the database, the local providers, every stage."""

import asyncio
import json
import os
import re
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections import defaultdict
from collections.abc import Generator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from confluent_kafka import KafkaException
from confluent_kafka.admin import AdminClient
from pydantic import SecretStr

from connectors.sandbox.faults import Fault
from connectors.sandbox.webpush import subscription
from infra.embedded import ports, registry, stack
from infra.embedded.supervisor import Supervisor
from pipeline.adapters.postgres.pool import transaction
from pipeline.adapters.postgres.profiles import save_profiles
from pipeline.cli.stages import (
    Providers,
    bootstrap,
    start_providers,
    surroundings,
    wait_for_providers,
)
from pipeline.model.event import Channel
from pipeline.model.profile import Address, Profile
from pipeline.settings import Settings
from pipeline.wiring import STAGES, clock, pool
from tests.faults.load import TENANT, channels
from tests.faults.whole.load import USERS, name
from tests.support.services import cache, until

_RETRY_SCALE = 0.01  # the ladder of 10 s to 6 h shrinks to 0.1 s to 216 s
_HTTP = 10.0  # seconds
# A mail takes four answers of the relay where a push takes one, and on a full machine each comes late: with the
# 20 connections of the default two thirds of the mails still waited when the load ended.
_MANY = {"EVERPOST_CONNECTOR_SMTP_CONNECTIONS": "100"}
_ENDED = re.compile(r"(\S+) ended ")


@dataclass(frozen=True, slots=True, kw_only=True)
class Stand:
    """The parts, while they run."""

    settings: Settings
    supervisor: Supervisor
    providers: Providers
    deaths: Mapping[str, Sequence[float]]  # by program: when it ended, in seconds since 1970
    environment: Mapping[str, str] = field(repr=False)
    broken: Sequence[str]  # what a program said when it ended by itself, in words

    def restarts(self, program: str) -> int:
        """How often a program was started again."""
        return next(each.restarts for each in self.supervisor.status() if each.name == program)

    def in_sync(self) -> bool:
        """Whether every replica of every partition is up to date, so that a broker may be taken away."""
        admin = AdminClient({"bootstrap.servers": self.settings.bootstrap_servers, "log_level": 0})
        try:
            topics = admin.list_topics(timeout=5).topics.values()
        except KafkaException:
            return False
        return all(len(n.isrs) == len(n.replicas) for topic in topics for n in topic.partitions.values())

    def provide(self, *faults: Fault) -> None:
        """Put faults into force at the local providers, as soon as they answer; none: right them all."""
        content = json.dumps([asdict(fault) for fault in faults]).encode()
        request = urllib.request.Request(
            f"{self.providers.control}/faults", content, method="POST" if faults else "DELETE"
        )
        until(lambda: _asked(request))  # they may be starting again after an earlier fault

    def clock_file(self, stage: str) -> Path:
        """Where the error of a stage's clock is written, in seconds."""
        return self.settings.home / f"clock.{stage}"

    def argv(self, stage: str) -> tuple[str, ...]:
        """How a stage is run."""
        return (
            sys.executable,
            "-m",
            "tests.faults.whole.stage_process",
            stage,
            str(self.clock_file(stage)),
        )

    @contextmanager
    def another(self, stages: Sequence[str], instance: str) -> Generator[None]:
        """A second process of each stage, told to end afterwards."""
        with ExitStack() as opened:
            for stage in stages:
                home = self.settings.home / f"{stage}.{instance}"
                home.mkdir(exist_ok=True)
                log = opened.enter_context(
                    (self.settings.home / "logs" / f"{stage}.{instance}.log").open("ab")
                )
                process = subprocess.Popen(
                    self.argv(stage),
                    stdout=log,
                    stderr=log,
                    env=os.environ
                    | self.environment
                    | {"EVERPOST_INSTANCE": instance, "EVERPOST_HOME": str(home)},
                )
                opened.callback(_end, process)
            yield


def _end(process: "subprocess.Popen[bytes]") -> None:
    process.terminate()
    try:
        process.wait(30)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


@contextmanager
def stand(home: Path, *, with_registry: bool) -> Generator[Stand]:
    """All of it, on a fresh home."""
    home.chmod(0o711)  # PostgreSQL's own user must get in
    deaths: dict[str, list[float]] = defaultdict(list)
    said: list[str] = []

    def report(line: str) -> None:
        if ended := _ENDED.match(line):
            deaths[ended[1]].append(time.time())  # noqa: TID251 - to be held against the providers' own clock
            if "killed by" not in line:
                said.append(line)

    with stack.up(home / "stack", brokers=3, cache=cache(), report=report) as running:
        supervisor = running.supervisor
        directory = running.home / "providers"
        start_providers(supervisor, directory)
        current = Settings(
            home=running.home,
            bootstrap_servers=running.bootstrap_servers,
            postgres_dsn=SecretStr(running.postgres_dsn),
            retry_scale=_RETRY_SCALE,
            replication=3,
            schema_registry_url=_registry(supervisor) if with_registry else None,
        )
        providers = wait_for_providers(supervisor, directory)
        asyncio.run(_fill(current, f"https://{providers.options['EVERPOST_CONNECTOR_WEBPUSH_HOSTS']}"))
        stood = Stand(
            settings=current,
            supervisor=supervisor,
            providers=providers,
            deaths=deaths,
            environment={**surroundings(current), **providers.options, **_MANY},
            broken=said,
        )
        for stage in STAGES:
            supervisor.add(stage, stood.argv(stage), stood.environment)
        yield stood


def _registry(supervisor: Supervisor) -> str:
    port, management = ports.free(2)
    files = registry.unpacked(cache(), lambda *_: None)
    server = registry.Registry(files=files, port=port, management_port=management)
    supervisor.run(server.program())
    until(lambda: server.ready(1), 180)
    return server.url


async def _fill(current: Settings, origin: str) -> None:
    await bootstrap(current)
    async with pool(current) as connections, transaction(connections) as connection:
        await save_profiles(connection, [_profile(user, origin) for user in range(USERS)])


def _profile(user: int, origin: str) -> Profile:
    addresses = tuple(
        Address(
            address_id=f"00000000-0000-4000-8000-{user:06}{number:06}",
            channel=channel,
            value=_address(channel, user, origin),
            registered_at=clock(),
        )
        for number, channel in enumerate(channels(user))
    )
    return Profile(tenant=TENANT, user_id=name(user), version=1, addresses=addresses)


def _address(channel: Channel, user: int, origin: str) -> str:
    known: dict[Any, str] = {
        "apns": f"{user:064x}",
        "fcm": f"fcm-{user:05}-{user:032x}",
        "sms": f"+1917555{user:04}",
        "email": f"{name(user)}@example.com",
    }
    return subscription(name(user), origin) if channel == "webpush" else known[channel]


def _asked(request: urllib.request.Request) -> bool:
    try:
        with urllib.request.urlopen(request, timeout=_HTTP) as answer:
            answer.read()
    except (urllib.error.URLError, ConnectionError, TimeoutError):
        return False
    return True
