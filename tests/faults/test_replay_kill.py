"""`kill -9` of a real replay in the middle: resumed or begun anew, each letter has gone out once."""

import asyncio
import secrets
from collections import Counter
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

import pytest

from pipeline.model.topics import deliver
from tests.support.database import migrated
from tests.support.eventually import eventually
from tests.support.letters import CHANNEL, command, dead, letter, start, write
from tests.support.topics import create_topics, read_tenant

pytestmark = [pytest.mark.integration, pytest.mark.faults]
LETTERS = 600
WHY = ("--why", "a test")
TOPIC = deliver(CHANNEL, "normal")


@pytest.fixture
def tenant(kafka: str) -> str:
    """Letters of this test alone; the broker is shared."""
    create_topics(kafka)
    return f"t{secrets.token_hex(6)}"


def keys(kafka: str, tenant: str) -> Counter[bytes]:
    """How often each user's delivery is on its channel again."""
    found = [message.key() for message in read_tenant(kafka, TOPIC, tenant)]
    return Counter(key for key in found if isinstance(key, bytes))


@asynccontextmanager
async def halfway(
    kafka: str, postgres: str, tenant: str, rate: int = 100
) -> AsyncGenerator[asyncio.subprocess.Process]:
    """A replay that has sent some of its letters; killed at the end, if it still runs."""
    words = ("replay", "--tenant", tenant, "--rate", str(rate), *WHY)
    async with until(kafka, postgres, tenant, LETTERS // 6, *words) as process:
        yield process


@asynccontextmanager
async def working(
    kafka: str, postgres: str, tenant: str, run_id: str
) -> AsyncGenerator[asyncio.subprocess.Process]:
    """A resumed run that has sent another letter: from now on, who resumes it is the newer one."""
    sent = len(await asyncio.to_thread(keys, kafka, tenant))
    async with until(kafka, postgres, tenant, sent, "resume", run_id, *WHY) as process:
        yield process


@asynccontextmanager
async def until(
    kafka: str, postgres: str, tenant: str, sent: int, *words: str
) -> AsyncGenerator[asyncio.subprocess.Process]:
    """The command, once more than so many letters have gone out; killed at the end, if it still runs."""
    process = await start(kafka, postgres, *words, "--json")
    try:

        async def more() -> bool:
            return len(await asyncio.to_thread(keys, kafka, tenant)) > sent

        await eventually(more, 60)
        yield process
    finally:
        if process.returncode is None:
            process.kill()
        await process.communicate()


async def the_run(kafka: str, postgres: str) -> str:
    """The id of the only run."""
    (run,) = await command(kafka, postgres, "runs")
    return run["run_id"]


async def test_a_killed_replay_goes_on_where_it_stopped(kafka: str, postgres: str, tenant: str) -> None:
    """Killed twice and resumed: every letter once, and the report counts every letter once."""
    await write(kafka, [letter(dead(tenant, n)) for n in range(LETTERS)])
    async with migrated(postgres):
        async with halfway(kafka, postgres, tenant) as process:
            process.kill()
        assert 0 < len(keys(kafka, tenant)) < LETTERS
        run_id = await the_run(kafka, postgres)
        async with working(kafka, postgres, tenant, run_id) as process:
            process.kill()
        told = await command(kafka, postgres, "resume", run_id, *WHY)
    assert (told["status"], told["counts"]) == ("done", {"sent": LETTERS})
    found = keys(kafka, tenant)
    assert (len(found), set(found.values())) == (LETTERS, {1})


async def test_what_an_aborted_run_had_only_taken_is_free_again(
    kafka: str, postgres: str, tenant: str
) -> None:
    """Killed and aborted, another run sends just the rest."""
    await write(kafka, [letter(dead(tenant, n)) for n in range(LETTERS)])
    async with migrated(postgres):
        async with halfway(kafka, postgres, tenant) as process:
            process.kill()
        run_id = await the_run(kafka, postgres)
        assert (await (await start(kafka, postgres, "abort", run_id, *WHY)).wait()) == 0
        gone = len(keys(kafka, tenant))
        told = await command(kafka, postgres, "replay", "--tenant", tenant, *WHY)
        assert told["counts"] == {"sent": LETTERS - gone, "replayed": gone}
        entry = await command(kafka, postgres, "runs", run_id)
    assert (entry["status"], sum(entry["results"].values())) == ("aborted", gone)
    found = keys(kafka, tenant)
    assert (len(found), set(found.values())) == (LETTERS, {1})


async def test_an_operator_stops_a_run_that_works(kafka: str, postgres: str, tenant: str) -> None:
    """Paused, it ends by itself and can go on; resumed elsewhere, the process that still works ends."""
    await write(kafka, [letter(dead(tenant, n)) for n in range(LETTERS)])
    async with migrated(postgres):
        async with halfway(kafka, postgres, tenant, 50) as process:
            run_id = await the_run(kafka, postgres)
            assert (await (await start(kafka, postgres, "pause", run_id, *WHY)).wait()) == 0
            assert await asyncio.wait_for(process.wait(), 60) == 0
        assert (await command(kafka, postgres, "runs", run_id))["status"] == "paused"
        async with working(kafka, postgres, tenant, run_id) as slow:
            taken = await command(kafka, postgres, "resume", run_id, *WHY)
            await slow.communicate()
    assert taken["counts"] == {"sent": LETTERS}
    assert slow.returncode in (0, 75)  # 0 when it was done before the other had begun
    found = keys(kafka, tenant)
    assert (len(found), set(found.values())) == (LETTERS, {1})
