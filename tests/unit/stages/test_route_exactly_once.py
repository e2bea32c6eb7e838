"""The router against a perfect one: batches, aborts and crashes in any order give its decisions."""

from collections.abc import Mapping, Sequence
from threading import Event as Flag

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from pipeline.adapters.wire.codec import Wire
from pipeline.adapters.wire.ids import LockFile
from pipeline.model.decision import Decision
from pipeline.model.event import Lane
from pipeline.model.profile import Profile
from pipeline.model.record import Incoming, Outgoing
from pipeline.model.topics import DECISIONS, events
from pipeline.observe import Meter
from pipeline.ports import UserKey
from pipeline.stages.route.state import RouterState
from pipeline.stages.route.step import Router, run
from tests.support.make import CATALOGUE, NOW, event, profile

WIRE = Wire(LockFile())


class _Log:
    """A broker of one partition number: events by topic, decisions, the group's offsets."""

    def __init__(self) -> None:
        self.events: dict[str, list[Incoming]] = {}
        self.decisions: list[bytes] = []
        self.offsets: dict[str, int] = {}

    def publish(self, lane: Lane, event_id: str, raw: bytes | None) -> None:
        """Append an event, or bytes that are none."""
        topic = events(lane)
        what = event(event_id=event_id, priority=lane)
        queue = self.events.setdefault(topic, [])
        value = WIRE.encode(what) if raw is None else raw
        queue.append(Incoming(topic=topic, partition=0, offset=len(queue), key=what.key, value=value, at=NOW))


class _Transactions:
    """Kafka's transactions by the book: a commit shows all, an abort nothing and rewinds."""

    epoch = 1

    def __init__(self, log: _Log, limit: int, fate: list[str], stop: Flag) -> None:
        self.log, self.limit, self.fate, self.stop = log, limit, fate, stop
        self.position = dict(log.offsets)

    def poll(self, limit: int, timeout: float) -> list[Incoming]:
        """The next records of every topic, at most `limit`; stops the router at the end."""
        assert limit > 0 < timeout
        batch = [r for t, rs in self.log.events.items() for r in rs[self.position.get(t, 0) :]][: self.limit]
        if not batch:
            self.stop.set()
        for record in batch:
            self.position[record.topic] = record.offset + 1
        return batch

    def wait(self, seconds: float) -> None:
        """Nothing is ever away here."""
        raise AssertionError(seconds)

    def commit(self, records: Sequence[Outgoing], offsets: Sequence[tuple[str, int, int]]) -> bool:
        """Commit, abort, or crash before or after the commit."""
        fate = self.fate.pop() if self.fate else "commit"
        if fate == "crash":
            raise ConnectionAbortedError
        if fate == "abort":
            self.position = dict(self.log.offsets)
            return False
        self.log.decisions += [r.value or b"" for r in records if r.topic == DECISIONS]
        self.log.offsets.update({topic: offset for topic, _, offset in offsets})
        if fate == "crash after":
            raise ConnectionAbortedError
        return True


def _fetch(users: Sequence[UserKey]) -> Mapping[UserKey, Profile]:
    return {user: profile(user[1]) for user in users}


class ExactlyOnce(RuleBasedStateMachine):
    """Publish, and run routers that crash, abort, and lose the group's offsets."""

    def __init__(self) -> None:
        super().__init__()
        self.log = _Log()

    @rule(
        lane=st.sampled_from(["urgent", "normal", "bulk"]),
        event_id=st.sampled_from(["a", "b", "c", "d"]),
        raw=st.none() | st.just(b"{}"),
    )
    def publish(self, lane: Lane, event_id: str, raw: bytes | None) -> None:
        """A service publishes an event, an earlier one again, or garbage."""
        self.log.publish(lane, event_id, raw)

    @rule(
        limit=st.integers(1, 5),
        fate=st.lists(st.sampled_from(["commit", "abort", "crash", "crash after"]), max_size=4),
    )
    def route(self, limit: int, fate: list[str]) -> None:
        """A fresh router process works until the end or its crash."""
        stop = Flag()
        transactions = _Transactions(self.log, limit, fate, stop)
        state = RouterState(WIRE, lambda _partitions, _since: list(self.log.decisions), lambda: NOW)
        state.restore([0])
        router = Router(
            transactions=transactions,
            state=state,
            wire=WIRE,
            fetch=_fetch,
            catalogue=CATALOGUE,
            clock=lambda: NOW,
            meter=Meter(),
            batch=limit,
        )
        try:
            run(router, stop)
        except ConnectionAbortedError:
            return

    @rule()
    def lose_offsets(self) -> None:
        """The group's offsets expire."""
        self.log.offsets.clear()

    @invariant()
    def every_record_is_decided_once(self) -> None:
        """No record has two decisions, and of each id at most one record is delivered."""
        decisions = [WIRE.decode(Decision, value) for value in self.log.decisions]
        sources = [(d.source_topic, d.source_offset) for d in decisions]
        assert len(sources) == len(set(sources))
        delivered = [d.event_id for d in decisions if d.verdict == "deliver"]
        assert len(delivered) == len(set(delivered))

    def teardown(self) -> None:
        """After a last quiet run every record has its decision, and every readable id one delivery."""
        self.route(limit=5, fate=[])
        decisions = [WIRE.decode(Decision, value) for value in self.log.decisions]
        assert len(decisions) == sum(len(queue) for queue in self.log.events.values())
        readable = {d.event_id for d in decisions if d.verdict != "rejected"}
        assert readable == {d.event_id for d in decisions if d.verdict == "deliver"}


TestExactlyOnce = ExactlyOnce.TestCase
TestExactlyOnce.settings = settings(max_examples=60, stateful_step_count=25, deadline=None)
