"""What a run has written again, as the ledger counts it: only what surely is sent, and only while nobody has decided it."""

from datetime import datetime
from typing import Any

import asyncpg
import pytest

from pipeline.adapters.postgres.ledger import books, heads
from pipeline.adapters.postgres.log import PostgresLog
from pipeline.adapters.postgres.replays import PostgresReplays
from pipeline.model.ledger import Ledger, balance
from pipeline.model.replay import Claim, Pace, Range, Run, Selection, Status, Terms
from pipeline.model.topics import RELEASED
from tests.support.database import migrated
from tests.support.log import decision
from tests.support.make import NOW

pytestmark = pytest.mark.integration
EVENTS = "notification.events.normal"


async def taken(books: PostgresReplays, run_id: str, *offsets: int, topic: str = EVENTS) -> None:
    """A run that has taken these and not ended."""
    await books.add(
        Run(
            run_id=run_id,
            kind="replay",
            who="ann",
            why="a test",
            at=NOW,
            ranges=(Range(topic=topic, partition=0, first=0, end=20),),
            selection=Selection(named=frozenset()),
            pace=Pace(),
            terms=Terms(),
        )
    )
    await move(books, run_id, "running")
    assert not await books.claim(run_id, [Claim(f"{topic}/0/{n}", 0, 0, n) for n in offsets])


async def move(books: PostgresReplays, run_id: str, status: Status, at: datetime = NOW) -> None:
    """Another status."""
    assert await books.move(run_id, status, at=at, who="ann", why="a test")


async def look(pool: asyncpg.Pool, end: int) -> tuple[Ledger, int]:
    """The balance with this end of partition 0, and where the watch begins to look."""
    found = balance(await books(pool), {(EVENTS, 0): end})
    return found, (await heads(pool, [(EVENTS, 0)]))[EVENTS, 0]


async def test_what_was_written_again_leaves_its_place_once_its_run_has_ended(postgres: str) -> None:
    """Ten events, of which 2, 3, 7 and 8 were passed; the runs write them behind these, one after the other."""
    async with migrated(postgres) as pool:
        runs, log = PostgresReplays(pool), PostgresLog(pool)
        await log.write([decision(f"e-{n}", source_offset=n) for n in (0, 1, 4, 5, 6)], [])
        await taken(runs, "overtaken", 2, 3)
        found, head = await look(pool, 9)
        assert (found.accepted, len(found.missing), head) == (9, 1, 7)  # it may have died before it sent them
        await move(runs, "overtaken", "done")
        assert await runs.results("overtaken") == {"for the router": 2}
        found, head = await look(pool, 11)
        assert (found.accepted, found.undecided, found.balanced, head) == (9, 4, True, 7)
        await taken(runs, "late", 7, 8)
        await move(runs, "late", "aborted")
        assert (await look(pool, 12))[0].accepted == 10  # one was sent, and nobody has said yet which
        await runs.release("late", {0: 8})
        found, head = await look(pool, 12)
        assert (found.accepted, found.undecided, found.balanced, head) == (9, 4, True, 8)
        await log.write([decision(f"e-{n}", source_offset=n) for n in (2, 9, 10, 11)], [])
        found, _ = await look(pool, 12)
    # The second has been decided where it stood, and again at its new place, as a duplicate or not.
    assert found.missing == (f"event {EVENTS}[0] offsets 8 to 8: no decision",)
    assert (found.accepted, found.final) == (10, 9)


async def test_a_release_that_was_written_again_is_no_hole_and_no_event(postgres: str) -> None:
    """Releases are counted by nobody; that later ones overtook it is said until it is written again."""
    changes: dict[str, Any] = {"source_topic": RELEASED, "release_of": f"{EVENTS}/0/0"}
    async with migrated(postgres) as pool:
        runs = PostgresReplays(pool)
        held = decision("e-0", verdict="held", reason="due", due_at=NOW)
        await PostgresLog(pool).write([held, decision("e-0", source_offset=1, **changes)], [])
        assert len((await look(pool, 1))[0].missing) == 1
        await taken(runs, "r-1", 0, topic=RELEASED)
        await move(runs, "r-1", "done")
        found, _ = await look(pool, 1)
    assert (found.accepted, found.final, found.missing) == (1, 1, ())
