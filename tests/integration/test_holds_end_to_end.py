"""Held and released by the real stages: router, timers and account, on a real Kafka and PostgreSQL."""

import asyncio
from collections.abc import Mapping
from contextlib import AsyncExitStack
from datetime import datetime, timedelta
from functools import partial
from typing import Any

import asyncpg
import pytest

from pipeline.adapters.kafka.admin import apply
from pipeline.adapters.postgres.pool import transaction
from pipeline.adapters.postgres.profiles import save_profiles
from pipeline.adapters.postgres.recalls import PostgresRecalls
from pipeline.adapters.postgres.why import why_event
from pipeline.adapters.wire.codec import Wire
from pipeline.adapters.wire.ids import LockFile
from pipeline.model.recall import Recall
from pipeline.model.timeline import Timeline, sentence
from pipeline.model.topics import RELEASED, table
from pipeline.sdk import Client, new_event
from pipeline.settings import Settings
from pipeline.wiring import catalogue, clock
from tests.support.commands import stage
from tests.support.database import migrated
from tests.support.eventually import eventually
from tests.support.make import profile

pytestmark = pytest.mark.integration
TENANT = "held"
WAIT = timedelta(seconds=5)
FLIGHT: Mapping[str, Any] = {
    "flight": "UA 1018",
    "carrier": "United",
    "origin": "EWR",
    "destination": "IAH",
    "scheduled": "05:25",
}


async def story(pool: asyncpg.Pool, event_id: str) -> Timeline | None:
    """What the log knows of an event."""
    found = (await why_event(pool, event_id)).timelines
    assert len(found) <= 1
    return found[0] if found else None


async def known(pool: asyncpg.Pool, *event_ids: str, holds: int = 0) -> bool:
    """Whether the log has all of them, with a decision after so many holds."""
    found = [await story(pool, event_id) for event_id in event_ids]
    return all(one is not None and len(one.earlier) >= holds for one in found)


async def publish(client: Client, event_id: str, deliver_at: datetime | None) -> None:
    """An event of this moment, for later or for at once."""
    await client.publish(
        new_event(
            "flight.cancelled",
            tenant=TENANT,
            user_id="u-1",
            data=FLIGHT,
            event_id=event_id,
            created_at=clock(),
            deliver_at=deliver_at,
        )
    )


async def test_an_event_for_later_waits_and_goes_out_unless_it_is_recalled(kafka: str, postgres: str) -> None:
    """Two for later, one of them recalled while it waits: each ends once, as one story."""
    await asyncio.to_thread(apply, kafka, table(4), 1)
    types, wire = catalogue(Settings()).types, Wire(LockFile())
    async with (
        migrated(postgres) as pool,
        Client(kafka, catalogue=types, encoder=wire) as client,
        AsyncExitStack() as stages,
    ):
        async with transaction(pool) as connection:
            await save_profiles(connection, [profile(tenant=TENANT)])
        await publish(client, "first", None)
        for name in ("route", "account"):
            await stages.enter_async_context(stage(name, kafka, postgres))
        await eventually(partial(known, pool, "first"), 60)  # now both are quick
        due = clock() + WAIT
        await publish(client, "goes", due)
        await publish(client, "stays", due)
        await eventually(partial(known, pool, "goes", "stays"), 60)
        order = Recall(recall_id="r-1", tenant=TENANT, at=clock(), event_id="stays")
        await PostgresRecalls(pool).add(order, "a test")
        await stages.enter_async_context(stage("hold", kafka, postgres))
        await eventually(partial(known, pool, "goes", "stays", holds=1), 60)
        goes, stays = await story(pool, "goes"), await story(pool, "stays")
    assert goes is not None
    assert stays is not None
    assert (goes.decision.verdict, goes.decision.source_topic) == ("deliver", RELEASED)
    assert goes.decision.decided_at >= due - timedelta(milliseconds=1)  # the record keeps milliseconds
    assert [(d.verdict, d.reason) for d in goes.earlier] == [("held", "due")]
    assert (stays.decision.verdict, len(stays.earlier)) == ("recalled", 1)
    assert "was not sent (recalled): an operator has withdrawn it" in sentence(stays)
    assert "It was held from" in sentence(stays)
