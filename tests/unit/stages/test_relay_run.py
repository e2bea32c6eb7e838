"""The relay's loop: it goes on when a dependency is back, and ends when it is told to."""

import asyncio
from collections.abc import Sequence
from uuid import UUID

import pytest
from structlog.testing import capture_logs

from pipeline.model.errors import DependencyDown
from pipeline.ports import OutboxRow
from pipeline.stages.relay import step

ROW = OutboxRow(UUID(int=1), "notification.events.normal", b"acme/u-1", b"\0\0\0\0\1x")


class Table:
    """An outbox that is away for its first claims."""

    def __init__(self, away: int, stop: asyncio.Event) -> None:
        self.away = away
        self.stop = stop
        self.settled: list[UUID] = []

    async def claim(self, limit: int) -> Sequence[OutboxRow]:
        """One row, once it is back."""
        if self.away:
            self.away -= 1
            raise DependencyDown("PostgreSQL does not answer")
        return [] if self.settled else [ROW]

    async def settle(self, ids: Sequence[UUID]) -> None:
        """Note."""
        self.settled += ids

    async def set_aside(self, id: UUID, error: str) -> None:
        """Not in this test."""
        raise AssertionError(error)

    async def wait(self, seconds: float) -> None:
        """Idle: the test is over."""
        self.stop.set()


class Topic:
    """A producer that is away for its first calls."""

    def __init__(self, away: int) -> None:
        self.away = away
        self.calls = 0

    async def send_all(self, records: Sequence[OutboxRow]) -> None:
        """Count."""
        self.calls += 1
        if self.calls <= self.away:
            raise DependencyDown("not acknowledged")


async def test_an_outage_pauses_and_resumes_and_skips_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """PostgreSQL away three times, then Kafka twice: the row is produced and settled, two log lines in all."""
    monkeypatch.setattr(step, "_PAUSE", 0.001)
    stop = asyncio.Event()
    table, topic = Table(3, stop), Topic(2)
    with capture_logs() as logs:
        await asyncio.wait_for(step.run(table, topic, stop=stop), 10)
    assert table.settled == [ROW.id]
    assert topic.calls == 3
    assert [log["event"] for log in logs] == ["dependency.down", "dependency.back"]


async def test_a_stop_ends_a_pause() -> None:
    """Nobody waits out an outage to stop."""
    stop = asyncio.Event()
    running = asyncio.create_task(step.run(Table(1_000_000, stop), Topic(0), stop=stop))
    await asyncio.sleep(0)
    stop.set()
    await asyncio.wait_for(running, 0.9)
