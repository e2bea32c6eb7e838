"""The router against a perfect one: batches, aborts, crashes and timers in any order give its decisions."""

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from threading import Event as Flag

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, invariant, rule

from pipeline.adapters.wire.codec import Wire
from pipeline.adapters.wire.ids import LockFile
from pipeline.model.decision import Decision
from pipeline.model.event import Channel, Event, Lane
from pipeline.model.hold import Hold
from pipeline.model.profile import Profile
from pipeline.model.record import Incoming, Outgoing, Records, Written, unpack
from pipeline.model.topics import DECISIONS, HOLDS, RELEASED, events
from pipeline.ports import UserKey
from pipeline.stages.route.step import run
from tests.support import routing
from tests.support.make import NEWS, NOW, event, profile
from tests.support.routing import MemoryStore

WIRE = Wire(LockFile())
END = NOW + timedelta(days=30)  # nothing expires here


class _Log:
    """A broker of one partition number: events and releases by topic, decisions, holds, the group's offsets."""

    def __init__(self) -> None:
        self.topics: dict[str, list[Incoming]] = {}
        self.decisions: list[bytes] = []
        self.pages: list[bytes] = []
        self.holds: list[Outgoing] = []
        self.offsets: dict[str, int] = {}

    def append(self, topic: str, key: bytes | None, value: bytes | None) -> None:
        """Append a record."""
        queue = self.topics.setdefault(topic, [])
        queue.append(Incoming(topic=topic, partition=0, offset=len(queue), key=key, value=value, at=NOW))

    def decided(self) -> list[Decision]:
        """Every committed decision, in order."""
        return [WIRE.decode(Decision, value) for value in self.decisions]


class _Transactions:
    """Kafka's transactions by the book: a commit shows all, an abort nothing and rewinds."""

    epoch = 1

    def __init__(self, log: _Log, limit: int, fate: list[str], stop: Flag) -> None:
        self.log, self.limit, self.fate, self.stop = log, limit, fate, stop
        self.position = dict(log.offsets)

    def poll(self, limit: int, timeout: float) -> Records:
        """The next records of every topic, at most `limit`; stops the router at the end."""
        assert limit > 0 < timeout
        batch = [r for t, rs in self.log.topics.items() for r in rs[self.position.get(t, 0) :]][: self.limit]
        if not batch:
            self.stop.set()
        for record in batch:
            self.position[record.topic] = record.offset + 1
        return Records.of(batch)

    def wait(self, seconds: float) -> None:
        """Nothing is ever away here."""
        raise AssertionError(seconds)

    def commit(self, written: Written, offsets: Sequence[tuple[str, int, int]]) -> Mapping[int, int] | None:
        """Commit, abort, or crash before or after the commit."""
        fate = self.fate.pop() if self.fate else "commit"
        if fate == "crash":
            raise ConnectionAbortedError
        if fate == "abort":
            self.position = dict(self.log.offsets)
            return None
        for message in unpack(written.packed.get(DECISIONS, b"")):
            assert message["partition"] == 0
            self.log.decisions.append(message["value"])
        for m in unpack(written.packed.get(HOLDS, b"")):
            self.log.holds.append(
                Outgoing(topic=HOLDS, key=m["key"], value=m["value"], partition=m["partition"])
            )
        self.log.pages += written.pages.values()
        self.log.offsets.update({topic: offset for topic, _, offset in offsets})
        if fate == "crash after":
            raise ConnectionAbortedError
        return {partition: len(self.log.pages) - 1 for partition in written.pages}


def _fetch(users: Sequence[UserKey]) -> Mapping[UserKey, Profile]:
    return {user: profile(user[1]) for user in users}


class ExactlyOnce(RuleBasedStateMachine):
    """Publish, and run routers that crash, abort, and lose the group's offsets; timers that release twice."""

    published = Bundle[Event]("published")

    def __init__(self) -> None:
        super().__init__()
        self.log = _Log()
        self.store = MemoryStore()  # the disk of the process
        self.now = NOW

    @rule(
        target=published,
        event_id=st.sampled_from("abcdef"),
        lane=st.sampled_from(["urgent", "normal", "bulk"]),
        kind=st.sampled_from(["flight.cancelled", "news.brief"]),
        due=st.sampled_from([None, NOW + timedelta(hours=1), NOW + timedelta(hours=5)]),
    )
    def publish(self, event_id: str, lane: Lane, kind: str, due: datetime | None) -> Event:
        """A service publishes an event, under a new id or one that stands for the same or for another content."""
        what = event(event_id=event_id, priority=lane, type=kind, deliver_at=due, expires_at=END)
        self.log.append(events(lane), what.key, WIRE.encode(what))
        return what

    @rule(what=published)
    def publish_again(self, what: Event) -> None:
        """A service does not know whether its event has arrived."""
        self.log.append(events(what.priority), what.key, WIRE.encode(what))

    @rule(what=consumes(published), topic=st.sampled_from([RELEASED, events("normal")]))
    def publish_garbage(self, what: Event, topic: str) -> None:
        """Bytes that nobody can read, or that stand on the wrong topic."""
        self.log.append(topic, what.key, b"{}" if topic == events("normal") else WIRE.encode(what))

    @rule(number=st.integers(0, 20), times=st.integers(1, 2))
    def release(self, number: int, times: int) -> None:
        """A timer runs off, too early or too late, or again because its process died before it knew."""
        for hold in self.log.holds[number : number + 1] * times:
            self.log.append(RELEASED, hold.key, hold.value)

    @rule(wait=st.sampled_from([timedelta(minutes=30), timedelta(minutes=90), timedelta(hours=13)]))
    def wait(self, wait: timedelta) -> None:
        """Time passes."""
        self.now += wait

    @rule(
        limit=st.integers(1, 5),
        fate=st.lists(st.sampled_from(["commit", "abort", "crash", "crash after"]), max_size=4),
    )
    def route(self, limit: int, fate: list[str]) -> None:
        """A fresh router process works until the end or its crash."""
        stop = Flag()
        transactions = _Transactions(self.log, limit, fate, stop)
        router = routing.router(
            lambda: self.now,
            _fetch,
            WIRE,
            transactions=transactions,
            known=routing.state(lambda: self.now, self.log.pages, self.store),
            batch=limit,
        )
        try:
            run(router, stop)
        except ConnectionAbortedError:
            return

    @rule()
    def lose_the_disk(self) -> None:
        """The next process starts elsewhere, with an empty store."""
        self.store = MemoryStore()

    @rule()
    def lose_offsets(self) -> None:
        """The group's offsets expire."""
        self.log.offsets.clear()

    @invariant()
    def every_record_is_decided_once(self) -> None:
        """No record has two decisions, no id is delivered twice, and nothing before its time."""
        decisions = self.log.decided()
        sources = [(d.source_topic, d.source_offset) for d in decisions]
        assert len(sources) == len(set(sources))
        delivered = [d.event_id for d in decisions if d.verdict == "deliver"]
        assert len(delivered) == len(set(delivered))
        assert len(self.log.holds) == sum(d.verdict == "held" for d in decisions)
        for hold in (WIRE.decode(Hold, record.value) for record in self.log.holds):
            assert hold.held_at < hold.due_at < hold.expires_at

    @invariant()
    def no_cap_is_passed(self) -> None:
        """In no window are there more sends of a category than its cap lets through."""
        news = [d for d in self.log.decided() if d.category == "news" and d.verdict == "deliver"]
        for channel, cap in NEWS.caps.items():
            sent = _sent(news, channel)
            for first, last in zip(sent, sent[cap.limit :], strict=False):
                assert last - first >= cap.window

    def teardown(self) -> None:
        """In the end every record has its decision, and every id that was readable exactly one delivery."""
        self.route(limit=5, fate=[])
        released = 0
        while released < len(self.log.holds):
            holds = self.log.holds[released:]
            released = len(self.log.holds)
            self.now = max(self.now, *(WIRE.decode(Hold, hold.value).due_at for hold in holds))
            for hold in holds * 2:
                self.log.append(RELEASED, hold.key, hold.value)
            self.route(limit=3, fate=[])
        self.no_cap_is_passed()
        decisions = self.log.decided()
        assert len(decisions) == sum(len(queue) for queue in self.log.topics.values())
        final = sorted(d.event_id for d in decisions if d.verdict not in ("held", "duplicate", "rejected"))
        assert final == sorted({d.event_id for d in decisions if d.verdict != "rejected"})
        assert final == sorted(d.event_id for d in decisions if d.verdict == "deliver")


def _sent(decisions: Sequence[Decision], channel: Channel) -> list[datetime]:
    return sorted(d.decided_at for d in decisions if any(p.channel == channel for p in d.deliveries))


TestExactlyOnce = ExactlyOnce.TestCase
TestExactlyOnce.settings = settings(max_examples=60, stateful_step_count=25, deadline=None)
