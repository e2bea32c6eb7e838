"""Whatever a run that dies has written twice, the router decides each event that was lost once."""

import asyncio
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from datetime import datetime, timedelta

from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.adapters.wire.codec import Wire
from pipeline.adapters.wire.ids import LockFile
from pipeline.model.dead import Letter
from pipeline.model.decision import Decision
from pipeline.model.errors import DependencyDown
from pipeline.model.record import Incoming, Message, Outgoing, Records, unpack
from pipeline.model.replay import Range, Selection
from pipeline.model.topics import DECISIONS, HOLDS
from pipeline.stages.replay.tools import Progress
from pipeline.stages.route.step import Router, decide_batch
from tests.support.make import NOW, event, profile
from tests.support.routing import router
from tests.unit.stages.test_replay_run import EVENTS, World, done, run

WIRE = Wire(LockFile())
COUNT = 25
DUE = NOW + timedelta(hours=1)
deaths = st.lists(st.integers(0, 3), max_size=4)


class Appending(World):
    """What goes to the router is acknowledged before the position is committed."""

    def write(self, records: Sequence[Outgoing], progress: Progress) -> None:
        """The records, and then the position or a crash."""
        self.written += records
        super().write((), progress)


class Clock:
    """A clock that stands still until it is set."""

    now = NOW

    def __call__(self) -> datetime:
        """The moment."""
        return self.now


def decide(by: Router, records: Sequence[Incoming], page: int) -> tuple[list[Decision], list[Message]]:
    """Decisions and holds of a batch that is committed."""
    work = decide_batch(by, Records.of(records))
    by.state.learn(work.batch.pages, {0: page})
    decisions = unpack(work.written.packed.get(DECISIONS, b""))
    holds = list(unpack(work.written.packed.get(HOLDS, b"")))
    return [WIRE.decode(Decision, one["value"]) for one in decisions], holds


def driven(letters: Sequence[Letter], selection: Selection, dies: Sequence[int]) -> list[Incoming]:
    """What a run over these writes that dies after so many batches, is resumed, dies again, and ends."""
    topic = letters[0].topic
    world = Appending(letters=letters)
    for dies_after in dies:
        world.dies_after = dies_after
        with suppress(DependencyDown):
            asyncio.run(done(run(world, topic=topic, selection=selection)))
    world.dies_after = 1_000
    told = asyncio.run(done(run(world, topic=topic, selection=selection)))
    assert told.counts == {"sent": len(letters)}
    return [
        Incoming(
            topic=one.topic, partition=one.partition or 0, offset=n, key=one.key, value=one.value, at=NOW
        )
        for n, one in enumerate(world.written)
    ]


def made(clock: Clock) -> Router:
    """A router of people who hear of everything."""
    return router(clock, lambda users: {user: profile(user[1]) for user in users}, WIRE)


@settings(deadline=None, max_examples=40)
@given(deaths)
def test_events_that_were_passed_are_decided_once(dies: list[int]) -> None:
    """Every repeat is a duplicate."""
    values = [WIRE.encode(event(f"e-{n}")) for n in range(COUNT)]
    letters = [Letter(EVENTS, 0, n, b"acme/u-1", value, 0, {}) for n, value in enumerate(values)]
    part = Range(topic=EVENTS, partition=0, first=0, end=COUNT)
    records = driven(letters, Selection(named=frozenset(), parts=(part,)), dies)
    # The router has read past their old places.
    again = [replace(one, offset=COUNT + one.offset) for one in records]
    found, _ = decide(made(Clock()), again, 0)
    _check(found, len(records))


@settings(deadline=None, max_examples=40)
@given(deaths)
def test_holds_without_a_timer_are_released_once(dies: list[int]) -> None:
    """The router remembers that it held them, and lets each release pass once."""
    clock = Clock()
    by = made(clock)
    values = [WIRE.encode(event(f"e-{n}", deliver_at=DUE)) for n in range(COUNT)]
    arrived = [
        Incoming(topic=EVENTS, partition=0, offset=n, key=b"acme/u-1", value=value, at=NOW)
        for n, value in enumerate(values)
    ]
    _, holds = decide(by, arrived, 0)
    clock.now = DUE
    letters = [Letter(HOLDS, 0, n, one["key"], one["value"], 0, {}) for n, one in enumerate(holds)]
    names = frozenset(f"{EVENTS}/0/{n}" for n in range(COUNT))
    records = driven(letters, Selection(named=names), dies)
    found, _ = decide(by, records, 1)
    _check(found, len(records))


def _check(found: Sequence[Decision], written: int) -> None:
    counts = Counter(one.event_id for one in found if one.verdict == "deliver")
    assert counts == {f"e-{n}": 1 for n in range(COUNT)}
    assert Counter(one.verdict for one in found)["duplicate"] == written - COUNT
