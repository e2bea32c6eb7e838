"""The router on a real broker and a real database: poison, outage, two of them."""

import asyncio
import threading
from collections import Counter
from collections.abc import Coroutine, Generator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any, TypeVar
from uuid import uuid4  # noqa: TID251 - ids of a run of its own, on a broker that other tests use

import pytest
from confluent_kafka import Message, Producer

from pipeline.adapters.kafka.admin import apply
from pipeline.adapters.kafka.ends import end_offsets
from pipeline.adapters.kafka.readback import read_back, values
from pipeline.adapters.kafka.transact import Transactor
from pipeline.adapters.postgres.pool import connect, transaction
from pipeline.adapters.postgres.profiles import PostgresProfiles, save_profiles
from pipeline.adapters.wire.codec import Wire
from pipeline.adapters.wire.ids import LockFile
from pipeline.model.decision import Decision
from pipeline.model.errors import DependencyDown
from pipeline.model.event import Event
from pipeline.model.hold import Hold
from pipeline.model.profile import Profile
from pipeline.model.topics import DEAD, DECISIONS, HOLDS, RELEASED, WINDOW, table
from pipeline.ports import UserKey
from pipeline.stages.route import step as route
from pipeline.stages.route.records import GROUP
from pipeline.stages.route.state import RouterState
from tests.support import routing
from tests.support.database import migrated
from tests.support.make import event, profile
from tests.support.routing import Fetch, MemoryStore
from tests.support.services import until
from tests.support.topics import read_topic

pytestmark = pytest.mark.integration
WIRE = Wire(LockFile())
NORMAL = "notification.events.normal"
T = TypeVar("T")


def now() -> datetime:
    """The wall clock."""
    return datetime.now(UTC)  # noqa: TID251 - a test's own clock


def decisions(kafka: str) -> list[Decision]:
    """Every committed decision of this broker."""
    since = now() - timedelta(hours=1)
    return [WIRE.decode(Decision, value) for value in values(kafka, DECISIONS, range(4), since)]


def ends(kafka: str) -> Mapping[int, int]:
    """Where the window's partitions end."""
    return {partition: end for (_, partition), end in end_offsets(kafka, [WINDOW]).items()}


@contextmanager
def running(
    kafka: str, fetch: Fetch, instance: str = "0", store: MemoryStore | None = None
) -> Generator[threading.Thread]:
    """A router in a thread of this process; without a store, one whose disk is empty."""
    stop = threading.Event()

    def work() -> None:
        known = RouterState(
            store or MemoryStore(), partial(read_back, kafka, WINDOW), partial(ends, kafka), now
        )
        transactor = Transactor(kafka, group=GROUP, instance=instance, topics=route.TOPICS, state=known)
        transactor.start()
        router = routing.router(now, fetch, WIRE, transactions=transactor, known=known, batch=100)
        route.run(router, stop)
        transactor.close()

    thread = threading.Thread(target=work)
    thread.start()
    try:
        yield thread
    finally:
        stop.set()
        thread.join(60)
        assert not thread.is_alive()


def everybody(users: Sequence[UserKey]) -> Mapping[UserKey, Profile]:
    """A profile for whoever is asked for."""
    return {user: profile(user[1], channels=["sms"]) for user in users}


def publish(kafka: str, records: Sequence[tuple[bytes | None, bytes | None]]) -> list[tuple[int, int]]:
    """Write raw records (key, value) to the normal lane; gives partition and offset of each."""
    producer = Producer(
        {"bootstrap.servers": kafka, "partitioner": "murmur2_random", "message.max.bytes": 2_000_000}
    )
    places: list[tuple[int, int]] = []

    def delivered(error: object, message: Message) -> None:
        assert error is None, error
        places.append((message.partition() or 0, message.offset() or 0))

    for key, value in records:
        producer.produce(NORMAL, value, key, on_delivery=delivered)
        assert producer.flush(60) == 0
    return places


def read_dead(kafka: str) -> dict[tuple[int, int], Message]:
    """The dead letters of the router, by partition and offset of their source."""
    found: dict[tuple[int, int], Message] = {}
    for message in read_topic(kafka, DEAD):
        headers = {name: value for name, value in message.headers() or () if isinstance(value, bytes)}
        if headers.get("__dlq.errors.topic") == NORMAL.encode():
            place = (int(headers["__dlq.errors.partition"]), int(headers["__dlq.errors.offset"]))
            found[place] = message
    return found


POISON: list[tuple[bytes | None, bytes | None]] = [
    (b"acme/u-1", b"{}"),  # no magic byte
    (b"acme/u-1", b"\0\0\0\0\x63 unknown schema id"),
    (b"acme/u-1", WIRE.encode(event())[:-3]),  # cut off
    (None, None),
    (b"acme/u-2", WIRE.encode(event())),  # another user's key
    (b"acme/u-1", b"\0" + b"x" * 900_000),  # close to the largest that the topic takes
    (event(type="no.type").key, WIRE.encode(event(type="no.type"))),
    (event(user_id="a\0b").key, WIRE.encode(event(user_id="a\0b"))),  # PostgreSQL stores no NUL
    (event(data={"x" * 500_000: "y"}).key, WIRE.encode(event(data={"x" * 500_000: "y"}))),
    (b"acme/u-1", WIRE.encode(event(created_at=datetime(9999, 12, 31, 23, tzinfo=UTC)))),
    (b"acme/u-1", WIRE.encode(event(deliver_at=datetime(9999, 12, 31, 23, tzinfo=UTC)))),
]


async def test_poison_is_kept_and_stops_nothing(kafka: str, postgres: str) -> None:
    """Each bad record gets a decision and a dead letter with its very bytes; the next good one goes out."""
    apply(kafka, table(4), 1)
    async with migrated(postgres) as pool, transaction(pool) as connection:
        await save_profiles(connection, [profile("u-1", channels=["sms"])])
    good = event(str(uuid4()), created_at=now())
    places = publish(kafka, [*POISON, (good.key, WIRE.encode(good))])
    with _fetching(postgres) as fetch, running(kafka, fetch):
        await asyncio.to_thread(
            until, lambda: any(d.event_id == good.event_id for d in decisions(kafka)), 60, 0.2
        )
    verdicts = {
        (d.source_partition, d.source_offset): d for d in decisions(kafka) if d.source_topic == NORMAL
    }
    assert verdicts[places[-1]].verdict == "deliver"
    dead = read_dead(kafka)
    for place, (key, value) in zip(places[:-1], POISON, strict=True):
        assert verdicts[place].verdict == "rejected", verdicts[place]
        assert (dead[place].key(), dead[place].value()) == (key, value)


def test_a_hold_comes_back_once_however_often_it_is_released(kafka: str) -> None:
    """The hold lies in its event's partition number; its release is decided again, a second one is a duplicate."""
    apply(kafka, table(4), 1)

    def verdicts(of: Event) -> list[str]:
        return [d.verdict for d in decisions(kafka) if d.event_id == of.event_id]

    with running(kafka, everybody):
        first = event(str(uuid4()), created_at=now())
        publish(kafka, [(first.key, WIRE.encode(first))])
        until(lambda: verdicts(first) == ["deliver"], pause=0.2)  # who starts late would find it due already
        due = now() + timedelta(seconds=5)
        what = event(str(uuid4()), created_at=now(), deliver_at=due)
        ((partition, _),) = publish(kafka, [(what.key, WIRE.encode(what))])
        until(lambda: verdicts(what) == ["held"], pause=0.2)
        held = [
            WIRE.decode(Hold, value) for value in values(kafka, HOLDS, [partition], due - timedelta(hours=1))
        ]
        (mine,) = (hold for hold in held if hold.event_id == what.event_id)
        until(lambda: now() > due, pause=0.1)
        producer = Producer({"bootstrap.servers": kafka})
        for _ in range(2):
            producer.produce(RELEASED, WIRE.encode(mine), what.key, partition)
        assert producer.flush(60) == 0
        until(lambda: verdicts(what) == ["held", "deliver", "duplicate"], pause=0.2)


@contextmanager
def _fetching(postgres: str) -> Generator[Fetch]:
    """Profiles of a real database for a router in another thread."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()

    def wait(coroutine: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(coroutine, loop).result(60)

    pool = wait(connect(postgres, size=2))
    profiles = PostgresProfiles(pool)
    try:
        yield lambda users: wait(profiles.fetch(users))
    finally:
        wait(pool.close())
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()


def test_an_outage_pauses_and_skips_nothing(kafka: str) -> None:
    """While profiles can't be had nothing is decided; when they are back everything is, once."""
    apply(kafka, table(4), 1)
    run = str(uuid4())
    away = threading.Event()
    away.set()
    asked = threading.Event()

    def fetch(users: Sequence[UserKey]) -> Mapping[UserKey, Profile]:
        asked.set()
        if away.is_set():
            raise DependencyDown("the database is away")
        return everybody(users)

    events = [event(f"{run}-{n}", f"u-{n}", created_at=now()) for n in range(300)]
    publish(kafka, [(one.key, WIRE.encode(one)) for one in events])

    def mine() -> Counter[str]:
        return Counter(d.event_id for d in decisions(kafka) if d.event_id.startswith(run))

    with running(kafka, fetch):
        assert asked.wait(60)
        assert not mine()
        away.clear()
        until(lambda: len(mine()) == 300, 60, 0.2)
    assert set(mine().values()) == {1}


def test_two_routers_share_the_work_and_nothing_is_decided_twice(kafka: str) -> None:
    """A second router joins and leaves in the middle: every event has one decision, duplicates are seen."""
    apply(kafka, table(4), 1)
    run = str(uuid4())

    def batch(part: int) -> list[tuple[bytes | None, bytes | None]]:
        made = [event(f"{run}-{part}-{n % 180}", f"u-{n % 180}", created_at=now()) for n in range(200)]
        return [(one.key, WIRE.encode(one)) for one in made]

    def mine() -> list[Decision]:
        return [d for d in decisions(kafka) if d.event_id.startswith(run)]

    with running(kafka, everybody, "0"):
        publish(kafka, batch(0))
        until(lambda: len(mine()) == 200, 60, 0.2)
        with running(kafka, everybody, "1"):
            publish(kafka, batch(1))
            publish(kafka, batch(0))  # all of them again, wherever their partition is now
            until(lambda: len(mine()) == 600, 60, 0.2)
    places = Counter((d.source_topic, d.source_partition, d.source_offset) for d in mine())
    assert set(places.values()) == {1}
    assert Counter(d.verdict for d in mine()) == {"deliver": 360, "duplicate": 240}
