"""The embedded services, really started."""

import asyncpg
import pytest
from confluent_kafka.admin import AdminClient, NewTopic

pytestmark = pytest.mark.integration


def test_broker_is_real(kafka: str) -> None:
    """A topic can be created on the broker of the fixture."""
    admin = AdminClient({"bootstrap.servers": kafka})
    created = admin.create_topics([NewTopic("embedded.probe", 4, 1)])
    created["embedded.probe"].result(10)
    assert len(admin.list_topics(timeout=10).topics["embedded.probe"].partitions) == 4


async def test_database_is_real_and_durable(postgres: str) -> None:
    """A fresh database is empty, and a commit in it is on disk before it is acknowledged."""
    connection = await asyncpg.connect(postgres, timeout=10)
    settings = [await connection.fetchval(f"show {name}") for name in ("fsync", "synchronous_commit")]
    assert settings == ["on", "on"]
    assert await connection.fetchval("select count(*) from pg_tables where schemaname = 'public'") == 0
    await connection.close()
