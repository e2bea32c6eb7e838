"""Real servers for tests: started on free ports, with their data in a directory that goes away."""

import shutil
import socket
import tempfile
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

from infra.embedded import jars, kafka, ports, postgres, registry
from infra.embedded.supervisor import Supervisor
from pipeline import settings

T = TypeVar("T")


def cache() -> Path:
    """Where fetched files are kept between runs: as `everpost up` keeps them. Made when it is not there yet."""
    path = settings.load().home / "cache"
    path.mkdir(parents=True, exist_ok=True)  # a test's home links to it: on a fresh machine it led nowhere
    return path


@contextmanager
def scratch() -> Generator[Path]:
    """A directory that the server's user can enter, which pytest's own is not."""
    path = Path(tempfile.mkdtemp(prefix="everpost-test-"))
    path.chmod(0o711)
    try:
        yield path
    finally:
        shutil.rmtree(path)


def until(what: Callable[[], T], deadline: float = 60.0, pause: float = 0.02) -> T:
    """Wait for a condition to hold, and return what it said. Fails after `deadline` seconds."""
    end = time.monotonic() + deadline
    while not (answer := what()):
        assert time.monotonic() < end, f"not within {deadline} s: {what}"
        time.sleep(pause)
    return answer


@contextmanager
def socket_on(port: int) -> Generator[None]:
    """Another program that listens on the port."""
    with socket.create_server((ports.HOST, port)):
        yield


@contextmanager
def broker() -> Generator[str]:
    """A broker; its bootstrap servers."""
    files = jars.fetch(kafka.bundle(), cache(), lambda *_: None)
    with scratch() as home, Supervisor(home / "logs") as supervisor:
        port, controller = ports.free(2)
        server = kafka.Kafka(
            files=files, directory=home / "kafka", logs=home / "logs", port=port, controller_port=controller
        )
        server.prepare()
        supervisor.run(server.program())
        until(lambda: server.ready(1), 60)
        yield server.bootstrap_servers


@contextmanager
def database_server() -> Generator[str]:
    """A PostgreSQL server; the DSN of its database `postgres`."""
    user = postgres.owner()
    with scratch() as home, Supervisor(home / "logs") as supervisor:
        server = postgres.Postgres(
            files=postgres.binaries(cache(), user),
            directory=home / "postgres",
            secret=home / "postgres.secret",
            port=ports.free(1)[0],
            user=user,
        )
        server.prepare()
        supervisor.run(server.program())
        until(lambda: server.ready(1))
        yield postgres.dsn(server.secret, server.port)


@contextmanager
def schema_registry() -> Generator[str]:
    """An Apicurio Registry without schemas; the URL of its Confluent API."""
    files = registry.unpacked(cache(), lambda *_: None)
    with scratch() as home, Supervisor(home / "logs") as supervisor:
        port, management = ports.free(2)
        server = registry.Registry(files=files, port=port, management_port=management)
        supervisor.run(server.program())
        until(lambda: server.ready(1), 120)
        yield server.url
