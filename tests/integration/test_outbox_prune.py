"""Who lets Debezium read the outbox: rows go when its slot has confirmed them, and no sooner."""

import asyncio
import json
import re
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path

import asyncpg
import pytest

from pipeline.adapters.postgres.pool import session, transaction
from pipeline.adapters.postgres.waiting import parked, prune, state
from pipeline.model.errors import ConfigurationError
from pipeline.model.event import Event
from pipeline.sdk import new_event, outbox
from tests.support.database import dump, migrated
from tests.support.eventually import eventually
from tests.support.make import CATALOGUE, NOW

pytestmark = pytest.mark.integration
ROOT = Path(__file__).parents[2]
SLOT = "everpost_prune_test"
DEADLINE = 60.0  # seconds


def made(number: int) -> Event:
    """A valid event."""
    data = {"flight": f"UA {number}"}
    return new_event(
        "flight.cancelled", tenant="prune", user_id="u", data=data, event_id=f"e-{number}", created_at=NOW
    )


async def put(pool: asyncpg.Pool, *numbers: int) -> None:
    """Commit events."""
    async with transaction(pool) as connection:
        for number in numbers:
            await outbox.enqueue(connection, made(number), catalogue=CATALOGUE)


@asynccontextmanager
async def slot(pool: asyncpg.Pool) -> AsyncGenerator[None]:
    """A logical replication slot, as Debezium makes one."""
    async with session(pool) as connection:
        await connection.execute("select pg_create_logical_replication_slot($1, 'pgoutput')", SLOT)
    try:
        yield
    finally:
        async with session(pool) as connection:
            await connection.execute("select pg_drop_replication_slot($1)", SLOT)


async def test_only_what_the_slot_has_confirmed_is_deleted(postgres: str) -> None:
    """Nothing while the reader is behind; and what is committed while it is waited for stays."""
    async with migrated(postgres) as pool, slot(pool):
        await put(pool, 1, 2, 3)
        assert await prune(pool, SLOT, 0.0) is None
        pruning = asyncio.create_task(prune(pool, SLOT, DEADLINE))

        async def waited_for() -> bool:
            async with session(pool) as connection:
                return await connection.fetchval(
                    "select exists (select from pg_stat_activity "
                    "where query like '-- Whether the reader%' and datname = current_database())"
                )

        await eventually(waited_for)
        await put(pool, 4)
        async with session(pool) as connection:
            await connection.execute(
                "select pg_replication_slot_advance($1, pg_current_wal_insert_lsn())", SLOT
            )
        assert await asyncio.wait_for(pruning, DEADLINE) == 3
        assert [row["event_id"] for row in (await dump(pool, "outbox"))["outbox"]] == ["e-4"]
        assert (await state(pool)).waiting == 1
        assert await parked(pool, 10) == []


async def test_a_slot_that_is_not_there_is_told(postgres: str) -> None:
    """Nothing is deleted by a misspelt name."""
    async with migrated(postgres) as pool:
        await put(pool, 1)
        with pytest.raises(ConfigurationError, match="no logical replication slot 'typo'"):
            await prune(pool, "typo", 0.0)
        assert (await state(pool)).waiting == 1


async def test_the_connector_reads_columns_that_are_there(postgres: str) -> None:
    """`infra/debezium/outbox.json` names the table, its columns and the slot as they are."""
    config = json.loads((ROOT / "infra" / "debezium" / "outbox.json").read_text(encoding="utf-8"))["config"]
    fields = {value for name, value in config.items() if re.search(r"table\.field\.|route\.by\.field", name)}
    async with migrated(postgres) as pool, session(pool) as connection:
        columns = await connection.fetch(
            "select attname from pg_attribute where attrelid = $1::text::regclass and attnum > 0",
            config["table.include.list"],
        )
    # the event router's own names, and those that the file gives
    assert {"id", "aggregateid", "aggregatetype", "type", "payload"} | fields <= {name for (name,) in columns}
    assert f'"{config["slot.name"]}"' in (ROOT / "pipeline" / "cli" / "outbox.py").read_text(encoding="utf-8")
