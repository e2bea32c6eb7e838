"""Fixtures that every tier may use. A server starts when the first test asks for it."""

import asyncio
import secrets
import signal
from collections.abc import Generator
from pathlib import Path
from urllib.parse import urlsplit

import asyncpg
import pytest
from hypothesis import settings

from tests.support import services

# No example fails for its time: on a machine with other work any of them may take a second.
_PROFILE = settings.get_profile(settings.get_current_profile_name())  # a plugin may have chosen one
settings.register_profile("everpost", _PROFILE, deadline=None)
settings.load_profile("everpost")

# A shell starts background jobs with SIGINT ignored, nohup ignores SIGHUP, and what is ignored stays so in
# every child: the programs under test would never see a Ctrl-C. With a handler here, though it does
# nothing, they start with the default again.
for _number in (signal.SIGINT, signal.SIGHUP, signal.SIGTERM):
    if signal.getsignal(_number) is signal.SIG_IGN:
        signal.signal(_number, lambda *_: None)


@pytest.fixture(scope="session")
def kafka() -> Generator[str]:
    """Bootstrap servers of one real broker in KRaft mode, without topics, stopped at the end."""
    with services.broker() as bootstrap_servers:
        yield bootstrap_servers


@pytest.fixture(scope="session")
def postgres_server() -> Generator[str]:
    """DSN of one real PostgreSQL server, stopped at the end."""
    with services.database_server() as dsn:
        yield dsn


@pytest.fixture(scope="session")
def registry() -> Generator[str]:
    """URL of one real schema registry (Confluent API) without schemas, stopped at the end."""
    with services.schema_registry() as url:
        yield url


@pytest.fixture
def postgres(postgres_server: str) -> Generator[str]:
    """DSN of a fresh database without tables, dropped after the test."""
    name = f"test_{secrets.token_hex(6)}"
    asyncio.run(_administer(postgres_server, f'CREATE DATABASE "{name}"'))
    yield urlsplit(postgres_server)._replace(path=f"/{name}").geturl()
    asyncio.run(_administer(postgres_server, f'DROP DATABASE "{name}" WITH (FORCE)'))


@pytest.fixture
def home() -> Generator[Path]:
    """An empty EVERPOST_HOME that the embedded services can use."""
    with services.scratch() as path:
        yield path


async def _administer(dsn: str, statement: str) -> None:
    connection = await asyncpg.connect(dsn, timeout=10)
    try:
        await connection.execute(statement, timeout=30)
    finally:
        await connection.close(timeout=10)
