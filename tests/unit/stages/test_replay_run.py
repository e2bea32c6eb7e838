"""One run in memory: the canary, the share of failures, the operator's wish, and the same letters after a crash."""

import asyncio
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import pytest

from pipeline.adapters.wire.codec import Wire
from pipeline.adapters.wire.ids import LockFile
from pipeline.adapters.wire.sketch import Sketcher
from pipeline.model.dead import AS_OF_DECISION, Letter
from pipeline.model.delivery import Delivery
from pipeline.model.errors import DependencyDown
from pipeline.model.outcome import Outcome
from pipeline.model.recall import Recall, Recalls
from pipeline.model.record import Outgoing
from pipeline.model.replay import Answers, Claim, Pace, Range, Run, Selection, Standing, Status, Terms
from pipeline.model.topics import DEAD, HOLDS, RELEASED
from pipeline.stages.replay.step import Replay
from pipeline.stages.replay.tools import Progress, Told, Tools
from tests.support.hold import hold, stored
from tests.support.letters import as_read, dead, letter
from tests.support.make import CATALOGUE, NOW, event
from tests.support.sending import MemoryProfiles

WIRE = Wire(LockFile())
COUNT = 60
TIER, EVENTS = "notification.retry.1h", "notification.events.normal"


@dataclass
class World:
    """A topic of letters, the claims, and what was written: it outlives the runs on it."""

    letters: Sequence[Letter] = field(
        default_factory=lambda: [as_read(letter(dead("acme", n)), n) for n in range(COUNT)]
    )
    claims: dict[tuple[str, int], tuple[str, Claim]] = field(default_factory=dict[Any, Any])
    written: list[Outgoing] = field(default_factory=list[Outgoing])
    positions: Progress = field(default_factory=dict[Any, Any])
    status: Status = "running"
    failing: Callable[[int], int] = lambda _answered: 0
    silent: bool = False
    dies_after: int = 1_000  # writes
    orders: Recalls = field(default_factory=Recalls)
    now: float = 0.0
    at: int = 0

    def timer(self) -> float:
        """A clock that goes on by a second whenever it is asked."""
        self.now += 1.0
        return self.now

    def read(self, limit: int) -> Sequence[Letter]:
        """The next letters."""
        found = self.letters[self.at : self.at + limit]
        self.at += len(found)
        return found

    def progress(self) -> Progress:
        """What was written last; the reading begins there."""
        self.at = next((offset for offset, _ in self.positions.values()), 0)
        return self.positions

    def write(self, records: Sequence[Outgoing], progress: Progress) -> None:
        """Both, or a crash before."""
        if self.dies_after <= 0:
            raise DependencyDown("dies for the test")
        self.dies_after -= 1
        self.written += records
        self.positions = {**self.positions, **progress}

    async def standing(self, asked: Sequence[Claim], run_id: str) -> Mapping[int, Standing]:
        """By the claims alone."""
        found: dict[int, Standing] = {}
        for n, claim in enumerate(asked):
            held = self.claims.get(claim[:2])
            if held is not None:
                found[n] = Standing(False, 0, held[0], held == (run_id, claim), False, 0)
        return found

    async def claim(self, run_id: str, claims: Sequence[Claim]) -> frozenset[int]:
        """The first has it."""
        await asyncio.sleep(0)
        return frozenset(
            n
            for n, claim in enumerate(claims)
            if self.claims.setdefault(claim[:2], (run_id, claim)) != (run_id, claim)
        )

    async def answers(self, sent: Sequence[tuple[str, int]]) -> Answers:
        """Everything is answered, or nothing."""
        answered = 0 if self.silent else len(sent)
        return Answers(sent=len(sent), answered=answered, failed=self.failing(answered))

    async def save(self, run_id: str, counts: Mapping[str, int]) -> Status:
        """The operator's wish."""
        return self.status

    async def recalls(self) -> Recalls:
        """The orders in force."""
        return self.orders


def run(world: World, run_id: str = "r-1", *, dry: bool = False, **changes: Any) -> Replay:
    """A run on the world."""
    made = Run(
        run_id=run_id,
        kind=changes.pop("kind", "replay"),
        who="ann",
        why="a test",
        at=NOW,
        ranges=(
            Range(
                topic=changes.pop("topic", DEAD), partition=changes.pop("partition", 0), first=0, end=COUNT
            ),
        ),
        selection=changes.pop("selection", Selection()),
        pace=Pace(**changes.pop("pace", {"rate": 100.0})),
        terms=Terms(**changes),
    )
    world.at = 0
    tools = Tools(
        letters=world,
        books=world,
        contents=Sketcher(LockFile()),
        wire=WIRE,
        catalogue=CATALOGUE,
        recalls=world.recalls,
        profiles=MemoryProfiles(),
        clock=lambda: NOW,
        timer=world.timer,
        tell=lambda _told: None,
    )
    return Replay(tools, made, None if dry else world)


def sent(world: World) -> Counter[bytes | None]:
    """How often each user's letter was sent."""
    return Counter(record.key for record in world.written)


async def done(replay: Replay) -> Told:
    """Run to its end, which must come soon."""
    return await asyncio.wait_for(replay.run(asyncio.Event()), 20)


async def test_a_run_as_of_the_decision_says_so_to_the_sender() -> None:
    """The mark is on each record, and on none of an ordinary run."""
    for words, marked in (("decision", True), ("now", False)):
        world = World()
        await done(run(world, words=words))
        assert {AS_OF_DECISION in record.headers for record in world.written} == {marked}


async def test_what_is_discarded_in_a_tier_ends_with_an_outcome() -> None:
    """One recalled outcome a delivery, of the attempt that it waited for; a dead letter needs none."""
    world = World()
    await done(run(world, kind="discard"))
    assert world.written == []
    world = World(letters=[one._replace(topic=TIER, headers={}) for one in world.letters])
    told = await done(run(world, kind="discard", topic=TIER))
    assert told.counts == {"discarded": COUNT}
    ends = [WIRE.decode(Outcome, record.value) for record in world.written]
    assert {(one.outcome, one.state, one.attempt) for one in ends} == {("recalled", "recalled", 6)}
    assert len({one.delivery_id for one in ends}) == COUNT


@pytest.mark.parametrize("dies_after", range(7))
async def test_wherever_it_dies_each_letter_goes_out_once(dies_after: int) -> None:
    """The claims of what was not written are its own; its counts are those of the whole run."""
    world = World(dies_after=dies_after)
    if dies_after < COUNT // 10:
        with pytest.raises(DependencyDown):
            await done(run(world))
    world.dies_after = 1_000
    told = await done(run(world))
    assert (told.status, told.counts) == ("done", {"sent": COUNT})
    assert (len(sent(world)), set(sent(world).values())) == (COUNT, {1})
    second = await done(run(replace(world, positions={}), "r-2"))
    assert second.counts == {"replayed": COUNT}


async def test_the_canary_goes_first_and_alone() -> None:
    """Silence or failures stop the run with no more than the canary out; good answers let the rest follow."""
    for world, status, out in (
        (World(silent=True), "stopped", 5),
        (World(failing=lambda answered: answered), "stopped", 5),
        (World(), "done", COUNT),
    ):
        told = await done(run(world, pace={"canary": 5, "patience": 3.0}))
        assert (told.status, len(world.written), bool(told.why)) == (status, out, status == "stopped")


async def test_too_many_failures_stop_it() -> None:
    """Once twenty answers are there."""
    world = World(failing=lambda answered: answered // 2)
    told = await done(run(world, pace={"rate": 100.0, "stop_at": 10.0}))
    assert told.status == "stopped"
    assert 20 <= len(world.written) < COUNT


@pytest.mark.parametrize(("wish", "end"), [("pausing", "paused"), ("aborted", "aborted")])
async def test_the_operators_wish_is_obeyed(wish: Status, end: Status) -> None:
    """Within a second of the next batch."""
    world = World(status=wish)
    assert (await done(run(world))).status == end
    assert len(world.written) < COUNT


async def test_a_dry_run_takes_and_sends_nothing() -> None:
    """It asks the users, of whom none is known here, and names samples."""
    world = World()
    told = await done(run(world, dry=True))
    assert (told.counts, world.written, world.claims) == ({"suppressed": COUNT}, [], {})
    assert len(told.samples["suppressed"]) == 3


async def test_recalled_letters_stay() -> None:
    """An order that reaches the event stops its letters."""
    world = World(orders=Recalls([Recall(recall_id="x", tenant="acme", at=NOW, type="flight.cancelled")]))
    assert (await done(run(world))).counts == {"recalled": COUNT}
    assert world.written == []


async def test_edits_are_sent_and_shown() -> None:
    """The lane leads to another topic, the event is encoded anew, the identity stays."""
    world = World()
    edits = {"lane": "urgent", "data.minutes": "30"}
    told = await done(run(world, edits=edits))
    first = WIRE.decode(Delivery, world.written[0].value)
    assert {record.topic for record in world.written} == {"notification.deliver.sms.urgent"}
    assert (first.attempt, first.lane) == (7, "urgent")
    assert told.changes[0][1] == (("lane", "normal", "urgent"), ("data.minutes", "None", "30"))
    refused = await done(run(World(), edits={"data.minutes": "soon"}))
    assert refused.counts == {"invalid": COUNT}
    assert "give a integer" in refused.samples["invalid"][0]


async def test_the_words_are_todays_unless_those_of_the_decision_are_asked_for() -> None:
    """An older version gives way to the catalogue's; nothing else of the bytes changes."""
    older = as_read(letter(dead("acme", 1, template_version=2)))
    for words, version in (("now", 3), ("decision", 2)):
        world = World(letters=[older])
        await done(run(world, words=words))
        after = WIRE.decode(Delivery, world.written[0].value)
        assert after == replace(WIRE.decode(Delivery, older.value), attempt=7, template_version=version)


async def test_what_is_discarded_is_taken_and_not_sent() -> None:
    """A letter that nobody can read as well."""
    world = World()
    world.letters = [*world.letters[:3], world.letters[3]._replace(value=b"poison")]
    assert (await done(run(world, kind="discard"))).counts == {"discarded": 4}
    assert (world.written, len(world.claims)) == ([], 4)


@pytest.mark.parametrize("dies_after", [0, 1, 7])
async def test_events_go_to_the_router_as_they_were(dies_after: int) -> None:
    """Bytes, key, partition number and foreign headers are kept, also of poison; a second run sends nothing."""
    foreign = (("origin", b"batch"),)
    events = [
        Letter(
            EVENTS,
            3,
            n,
            b"acme/u-1",
            b"poison" if n % 2 else WIRE.encode(event(f"e-{n}")),
            0,
            dict(foreign),
            foreign,
        )
        for n in range(20)
    ]
    world, part = (
        World(letters=events, dies_after=dies_after),
        Range(topic=EVENTS, partition=3, first=4, end=20),
    )
    lost: dict[str, Any] = {
        "partition": 3,
        "selection": Selection(named=frozenset(), parts=(part,)),
    }
    if dies_after < 2:
        with pytest.raises(DependencyDown):
            await done(run(world, topic=EVENTS, **lost))
    world.dies_after = 1_000
    assert (await done(run(world, topic=EVENTS, **lost))).counts == {"sent": 16}
    marks = (("__dlq.replay.run", b"r-1"), ("__dlq.replay.count", b"1"))
    assert world.written == [
        Outgoing(topic=EVENTS, key=one.key, value=one.value, headers=foreign + marks, partition=3)
        for one in events[4:]
    ]
    second = await done(run(replace(world, positions={}), "r-2", topic=EVENTS, **lost))
    assert second.counts == {"replayed": 16}


async def test_a_hold_goes_where_its_release_would_have_gone() -> None:
    """Its own bytes; one that is over goes as well, and only a dry run tells of it."""
    held = [stored(hold(source_partition=3, source_offset=n, expires_at=NOW)) for n in range(3)]
    letters = [Letter(HOLDS, 3, n, one.key, one.value or b"", 0, {}) for n, one in enumerate(held)]
    names = frozenset({"notification.events.normal/3/0", "notification.events.normal/3/2"})
    chosen: dict[str, Any] = {
        "topic": HOLDS,
        "partition": 3,
        "selection": Selection(named=names),
        "over": True,
    }
    assert (await done(run(World(letters=letters), dry=True, **chosen))).counts == {"expired": 2}
    world = World(letters=letters)
    assert (await done(run(world, **chosen))).counts == {"sent": 2}
    assert [(one.topic, one.partition, one.key, one.value) for one in world.written] == [
        (RELEASED, 3, held[n].key, held[n].value) for n in (0, 2)
    ]
