"""`everpost outbox`: what is parked has a name and a reason, and can wait again."""

import asyncio
import json

import pytest

from pipeline.adapters.postgres.outbox import PostgresOutbox
from pipeline.adapters.postgres.pool import transaction
from pipeline.adapters.postgres.waiting import state
from pipeline.cli.outbox import prune, release, show
from pipeline.model.errors import ConfigurationError
from pipeline.sdk import new_event, outbox
from tests.support.database import migrated
from tests.support.eventually import eventually
from tests.support.make import CATALOGUE, NOW

pytestmark = pytest.mark.integration


async def park(dsn: str) -> None:
    """Two events, one of them parked."""
    async with migrated(dsn) as pool:
        async with transaction(pool) as connection:
            for number in range(2):
                one = new_event(
                    "flight.cancelled",
                    tenant="command",
                    user_id="u",
                    data={"flight": f"UA {number}"},
                    event_id=f"e-{number}",
                    created_at=NOW,
                )
                await outbox.enqueue(connection, one, catalogue=CATALOGUE)
        table = PostgresOutbox(pool)
        try:
            rows = await table.claim(10)
            await table.set_aside(rows[0].id, "a topic that takes no events")
        finally:
            await table.aclose()

        async def left() -> bool:
            return not (await state(pool)).shares

        await eventually(left)


def test_what_is_parked_is_told_and_released(
    postgres: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The exit code says that something is wrong, the answer what, and `release` mends it."""
    monkeypatch.setenv("EVERPOST_POSTGRES_DSN", postgres)
    asyncio.run(park(postgres))
    assert show(json=True) == 1
    found = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert (found["waiting"], found["parked"]) == (1, 1)
    (row,) = found["rows"]
    assert (row["event_id"], row["error"]) == ("e-0", "a topic that takes no events")
    assert show() == 1
    assert "everpost outbox release" in capsys.readouterr().out
    with pytest.raises(ConfigurationError, match="'e-0' is no id of a row"):
        release(["e-0"])
    assert release([row["outbox_id"]]) == 0
    assert "1 rows wait again" in capsys.readouterr().out
    assert show() == 1, "nobody drains them"
    assert "everpost run relay" in capsys.readouterr().out
    with pytest.raises(ConfigurationError, match="no logical replication slot"):
        prune(wait=0.0)
