"""The account's loop: a batch is kept until it is durable, and committed after that."""

import asyncio
from collections.abc import Mapping, Sequence

from structlog.testing import capture_logs

from pipeline.adapters.wire.codec import Wire
from pipeline.adapters.wire.ids import LockFile
from pipeline.model.decision import Decision
from pipeline.model.engagement import Engagement
from pipeline.model.errors import DependencyDown
from pipeline.model.outcome import Outcome
from pipeline.model.record import Incoming, Outgoing
from pipeline.model.topics import DECISIONS, OUTCOMES
from pipeline.stages.account.step import run
from tests.support.log import decision, outcome
from tests.support.make import NOW

WIRE = Wire(LockFile())


def incoming(topic: str, value: bytes, offset: int) -> Incoming:
    """A record."""
    return Incoming(topic=topic, partition=0, offset=offset, key=b"acme/u-1", value=value, at=NOW)


BATCH = [
    incoming(DECISIONS, WIRE.encode(decision()), 0),
    incoming(OUTCOMES, WIRE.encode(outcome()), 0),
    incoming(OUTCOMES, b"?", 1),
]


class World:
    """Kafka and PostgreSQL, which write down in which order they are used; each fails `away` times first."""

    def __init__(self, stop: asyncio.Event, **away: int) -> None:
        self.stop = stop
        self.away = away
        self.done: list[str] = []
        self.left = list(BATCH)

    def _use(self, name: str) -> None:
        if self.away.get(name, 0):
            self.away[name] -= 1
            raise DependencyDown(name)
        self.done.append(name)

    async def fetch(self, rooms: Mapping[str, int], wait: float) -> Sequence[Incoming]:
        """The batch, once; then the test is over."""
        if not rooms:
            return []
        self._use("fetch")
        if not self.left:
            self.stop.set()
        batch, self.left = self.left, []
        return batch

    def owns(self, record: Incoming) -> bool:
        """All is ours."""
        return True

    def abandon(self, records: Sequence[Incoming]) -> None:
        """Not in this test."""

    async def commit(self, records: Sequence[Incoming]) -> None:
        """Offsets of the whole batch."""
        self._use(f"commit {len(records)}")

    async def send_all(self, records: Sequence[Outgoing]) -> None:
        """Dead letters."""
        self._use(f"dead {len(records)}")

    async def write(
        self, decisions: Sequence[Decision], outcomes: Sequence[Outcome], engagements: Sequence[Engagement]
    ) -> None:
        """The log."""
        self._use(f"write {len(decisions)} {len(outcomes)}")


async def play(**away: int) -> tuple[list[str], list[str]]:
    """Run over one batch; what was done in which order, and what was logged."""
    stop = asyncio.Event()
    world = World(stop, **away)
    with capture_logs() as logs:
        await asyncio.wait_for(run(world, WIRE, world, world, stop=stop), 30)
    return world.done, [log["event"] for log in logs]


async def test_offsets_are_committed_last() -> None:
    """The log, then dead letters, then the offsets: a crash between any two loses nothing."""
    done, logged = await play()
    assert done == ["fetch", "write 1 1", "dead 1", "commit 3", "fetch"]
    assert logged == ["record.rejected"]


async def test_an_outage_keeps_the_batch_and_tries_it_again() -> None:
    """PostgreSQL away twice: the batch is written once it is back, one dead letter in all, nothing fetched meanwhile."""
    done, logged = await play(**{"write 1 1": 2})
    assert done == ["fetch", "write 1 1", "dead 1", "commit 3", "fetch"]
    assert (logged.count("dependency.down"), logged.count("dependency.back")) == (1, 1)


async def test_a_commit_that_fails_does_the_batch_again() -> None:
    """The log is idempotent, so again is harmless."""
    done, _ = await play(**{"commit 3": 1})
    assert done == ["fetch", "write 1 1", "dead 1", "write 1 1", "dead 1", "commit 3", "fetch"]
