"""A decision holds all that decided it: from its record, the event and the profile of that version, the same again."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, time, timedelta

from hypothesis import given
from hypothesis import strategies as st

from pipeline.adapters.wire.codec import Wire
from pipeline.adapters.wire.ids import LockFile
from pipeline.model.decision import Decision
from pipeline.model.event import Event
from pipeline.model.profile import Profile
from pipeline.model.recall import Recall, Recalls
from pipeline.model.record import Incoming, Outgoing, Records, unpack
from pipeline.model.topics import DECISIONS, HOLDS, RELEASED, events
from pipeline.ports import UserKey
from pipeline.stages.route.decide import GATES
from pipeline.stages.route.step import Router, decide_batch
from tests.support import routing
from tests.support.make import NOW, event, profile

WIRE = Wire(LockFile())
RECALL = Recall(recall_id="r-1", tenant="acme", at=NOW + timedelta(hours=2), type="flight.cancelled")
# What the user changes their profile to; its place here and the count of changes make the version.
PROFILES: tuple[Profile | None, ...] = (
    profile(),
    profile(enabled=False),
    profile(quiet_from=time(13), quiet_until=time(15), timezone="Europe/Berlin"),
    profile(preferences={("news", "sms"): False}, tenant_defaults={("flights", ""): False}),
    profile(channels=["sms"]),
    None,
)


@dataclass(slots=True)
class _World:
    """What is on the topics and in the tables, with its history."""

    now: datetime = NOW
    records: dict[tuple[str, int], Incoming] = field(default_factory=dict[tuple[str, int], Incoming])
    decisions: list[bytes] = field(default_factory=list[bytes])
    holds: list[Outgoing] = field(default_factory=list[Outgoing])
    profiles: dict[int | None, Profile | None] = field(default_factory=dict[int | None, Profile | None])
    current: Profile | None = field(default_factory=profile)

    def append(self, topic: str, key: bytes | None, value: bytes | None) -> Incoming:
        """A record at the topic's end."""
        offset = sum(where == topic for where, _ in self.records)
        record = Incoming(topic=topic, partition=0, offset=offset, key=key, value=value, at=self.now)
        self.records[topic, offset] = record
        return record

    def fetch(self, users: Sequence[UserKey]) -> Mapping[UserKey, Profile]:
        """The profile as it is now, kept by its version."""
        if self.current is None:
            return {}
        self.profiles[self.current.version] = self.current
        return dict.fromkeys(users, self.current)

    def recalls(self) -> Recalls:
        """The orders of this moment."""
        return Recalls([RECALL] if self.now >= RECALL.at else [])


def router(world: _World) -> Router:
    """A router that knows nothing yet."""
    return routing.router(lambda: world.now, world.fetch, WIRE, recalls=world.recalls)


def run(world: _World, working: Router, batch: Iterable[Incoming]) -> None:
    """Decide about a batch and commit it."""
    work = decide_batch(working, Records.of(list(batch)))
    for topic, packed in work.written.packed.items():
        messages = list(unpack(packed))
        if topic == DECISIONS:
            world.decisions += [message["value"] for message in messages]
        if topic == HOLDS:
            world.holds += [
                Outgoing(topic=HOLDS, key=m["key"], value=m["value"], partition=0) for m in messages
            ]
    working.state.learn(work.batch.pages, dict.fromkeys(work.batch.pages, 0))


moves = st.tuples(
    st.integers(0, 100),  # minutes that pass
    st.sampled_from(range(len(PROFILES))),
    st.lists(
        st.builds(
            event,
            event_id=st.sampled_from("abcde"),
            type=st.sampled_from(["flight.cancelled", "news.brief", "seat.free", "account.code", "no.such"]),
            priority=st.sampled_from(["urgent", "normal"]),
            deliver_at=st.sampled_from([None, NOW + timedelta(hours=1)]),
            expires_at=st.sampled_from([None, NOW + timedelta(hours=3)]),
        )
        | st.integers(0, 5),  # a hold that is released
        max_size=4,
    ),
)


@given(story=st.lists(moves, min_size=1, max_size=8))
def test_every_decision_can_be_recomputed(story: Sequence[tuple[int, int, Sequence[Event | int]]]) -> None:
    """An auditor with the topics and the versions of the profiles comes to the same records, field by field."""
    world = _World()
    working = router(world)
    for number, (minutes, who, batch) in enumerate(story):
        world.now += timedelta(minutes=minutes)
        chosen = PROFILES[who]
        world.current = None if chosen is None else replace(chosen, version=number + 1)
        arrivals: list[Incoming] = []
        for what in batch:
            if isinstance(what, Event):
                arrivals.append(world.append(events(what.priority), what.key, WIRE.encode(what)))
            elif what < len(world.holds):
                arrivals.append(world.append(RELEASED, world.holds[what].key, world.holds[what].value))
        run(world, working, arrivals)

    again = _World(records=world.records)
    auditor = router(again)
    for value in world.decisions:
        recorded = WIRE.decode(Decision, value)
        again.now = recorded.decided_at
        again.current = world.profiles[recorded.profile_version] if recorded.profile_version else None
        run(again, auditor, [world.records[recorded.source_topic, recorded.source_offset]])
        assert WIRE.decode(Decision, again.decisions[-1]) == recorded
        _consistent(recorded)
    assert again.holds == world.holds


def _consistent(decision: Decision) -> None:
    """The gates were asked in their order, and the last one is the verdict."""
    names = [gate.gate for gate in decision.gates]
    assert names == ["readable", *GATES][: len(names)]
    stopped = [gate.gate for gate in decision.gates if not gate.passed]
    assert (decision.verdict == "deliver") == (not stopped) == bool(decision.deliveries)
    assert stopped in ([], names[-1:])
    assert {planned.channel for planned in decision.deliveries} == {
        verdict.channel for verdict in decision.channels if verdict.allowed and not stopped
    }
