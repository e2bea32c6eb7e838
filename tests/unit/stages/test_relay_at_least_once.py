"""The relay against every failure between two steps: nothing lost, first copies in order."""

import asyncio
from collections.abc import Sequence
from uuid import UUID

from hypothesis import given
from hypothesis import strategies as st

from pipeline.model.errors import DependencyDown, PayloadTooLarge
from pipeline.ports import OutboxRow
from pipeline.stages.relay.step import step

NORMAL = "notification.events.normal"
HEAD = b"\0\0\0\0\1"  # of a record in the wire format


class Killed(BaseException):
    """The process ends here."""


class Table:
    """An outbox table; rows become visible in the order of their commits, not of their numbers."""

    def __init__(self) -> None:
        self.rows: dict[int, OutboxRow] = {}
        self.parked: dict[UUID, str] = {}

    async def claim(self, limit: int) -> Sequence[OutboxRow]:
        """The lowest numbers."""
        return [self.rows[seq] for seq in sorted(self.rows)][:limit]

    async def settle(self, ids: Sequence[UUID]) -> None:
        """Delete."""
        self.rows = {seq: row for seq, row in self.rows.items() if row.id not in ids}

    async def set_aside(self, id: UUID, error: str) -> None:
        """Park."""
        self.parked[id] = error
        await self.settle([id])

    async def wait(self, seconds: float) -> None:
        """Nothing to wait for."""


class Topic:
    """A producer that takes the first `room` records of a call, and refuses what says so."""

    def __init__(self) -> None:
        self.written: list[bytes] = []
        self.room: int | None = None

    async def send_all(self, records: Sequence[OutboxRow]) -> None:
        """In order; DependencyDown when there is no more room."""
        values = [record.value.removeprefix(HEAD) for record in records]
        good = [value for value in values if value != b"too large for this broker"]
        self.written += good[: self.room]
        if self.room is not None and self.room < len(good):
            raise DependencyDown("not acknowledged in time")
        if len(good) < len(records):
            raise PayloadTooLarge("one of them")


def row(number: int, value: bytes | None = None, topic: str = NORMAL) -> OutboxRow:
    """A row of one user."""
    return OutboxRow(UUID(int=number), topic, b"acme/u-1", HEAD + (value or str(number).encode()))


def relay(table: Table, topic: Topic, *, limit: int = 3, kill_at: str = "") -> None:
    """One round, which ends where it is killed or where Kafka is away."""

    def reached(name: str) -> None:
        if name == kill_at:
            raise Killed

    try:
        asyncio.run(step(table, topic, limit, reached))
    except (Killed, DependencyDown):
        return


STEPS = ["", "claimed", "set aside", "produced", "settled"]


@given(
    order=st.permutations(range(8)),
    rounds=st.lists(
        st.tuples(st.integers(0, 3), st.sampled_from(STEPS), st.none() | st.integers(0, 3)), max_size=12
    ),
)
def test_every_committed_row_arrives_whatever_fails(
    order: list[int], rounds: list[tuple[int, str, int | None]]
) -> None:
    """Kills, half-written batches and late commits of lower numbers: every row arrives at least once."""
    table, topic, late = Table(), Topic(), list(order)
    for commits, kill_at, room in rounds:
        for number in late[:commits]:
            table.rows[number] = row(number)
        late = late[commits:]
        topic.room = room
        relay(table, topic, kill_at=kill_at)
    topic.room = None
    for number in late:
        table.rows[number] = row(number)
    while table.rows:
        relay(table, topic)
    assert set(topic.written) == {str(n).encode() for n in range(8)}


@given(
    rounds=st.lists(st.tuples(st.sampled_from(STEPS), st.none() | st.integers(0, 3)), max_size=12),
)
def test_first_copies_are_in_the_order_of_the_table(rounds: list[tuple[str, int | None]]) -> None:
    """After the router has dropped the repeats, a user's events stand in the order of their commits."""
    table, topic = Table(), Topic()
    table.rows = {number: row(number) for number in range(8)}
    for kill_at, room in rounds:
        topic.room = room
        relay(table, topic, kill_at=kill_at)
    topic.room = None
    while table.rows:
        relay(table, topic)
    assert list(dict.fromkeys(topic.written)) == [str(n).encode() for n in range(8)]


def test_a_poison_row_is_parked_and_blocks_nobody() -> None:
    """A row with a wrong topic, and one that only the broker finds too large, leave the others alone."""
    table, topic = Table(), Topic()
    table.rows = {
        1: row(1),
        2: row(2, topic="notification.events.typo"),
        3: row(3, b"too large for this broker"),
        4: row(4),
    }
    relay(table, topic, limit=10)
    assert table.rows == {}
    assert list(dict.fromkeys(topic.written)) == [b"1", b"4"]
    assert table.parked.keys() == {UUID(int=2), UUID(int=3)}
    assert "typo" in table.parked[UUID(int=2)]


def test_nothing_is_settled_before_it_is_acknowledged() -> None:
    """A round that Kafka does not acknowledge leaves the table as it was."""
    table, topic = Table(), Topic()
    table.rows = {number: row(number) for number in range(3)}
    topic.room = 2
    relay(table, topic)
    assert list(table.rows) == [0, 1, 2]
