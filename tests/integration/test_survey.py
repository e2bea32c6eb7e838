"""The watch on a real Kafka and PostgreSQL: what stands still is found where it is, and nothing else is."""

import os
import time
from collections import Counter
from collections.abc import Generator, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4  # noqa: TID251 - ids of a run of its own, on a broker that other tests use

import asyncpg
import pytest
from confluent_kafka import Producer

from pipeline.adapters.postgres.log import PostgresLog
from pipeline.adapters.postgres.pool import transaction
from pipeline.adapters.postgres.timers import PostgresTimers
from pipeline.adapters.postgres.watch import Lead
from pipeline.model.decision import Decision, Planned
from pipeline.model.delivery import Delivery
from pipeline.model.errors import DependencyDown
from pipeline.model.event import Channel
from pipeline.model.hold import Timer
from pipeline.model.outcome import Outcome
from pipeline.model.topics import DECISIONS, OUTCOMES, RELEASED, deliver, retry
from pipeline.sdk import outbox
from tests.support import services
from tests.support.commands import last, run
from tests.support.database import migrated
from tests.support.groups import read_to_the_end
from tests.support.log import decision, outcome
from tests.support.make import CATALOGUE, event
from tests.support.sending import WIRE, delivery
from tests.support.topics import create_topics, read_topic

pytestmark = pytest.mark.integration
EVENTS = "notification.events.normal"
SMS, APNS = deliver("sms", "normal"), deliver("apns", "normal")
CUT = """
select bool_and(pg_terminate_backend(pid, 5000)) from pg_locks
where locktype = 'advisory' and database = (select oid from pg_database where datname = current_database())
"""
THEN = datetime.now(UTC) - timedelta(hours=1)  # noqa: TID251 - the programs under test have the real clock


@pytest.fixture(scope="module")
def own_kafka() -> Generator[str]:
    """A broker whose groups nobody else moves."""
    with services.broker() as servers:
        create_topics(servers)
        yield servers


def put(kafka: str, *topics: str, at: datetime = THEN) -> None:
    """One record on partition 0 of each, as if written at that time."""
    producer = Producer({"bootstrap.servers": kafka})
    for topic in topics:
        producer.produce(topic, b"x", b"acme/u-1", 0, timestamp=int(at.timestamp() * 1000))
    assert producer.flush(60) == 0


def plan(id: str, channel: Channel, offset: int, **changes: Any) -> Decision:
    """A decision of an hour ago with one delivery."""
    planned = Planned(delivery_id=id, channel=channel, address_id="a-1")
    values: dict[str, Any] = {"deliveries": (planned,), "decided_at": THEN, **changes}
    return decision(f"e-{id}", source_offset=offset, source_partition=3, **values)


def waiting(id: str) -> Outcome:
    """A first attempt that failed an hour ago, and a second one that should have been made since."""
    return outcome(
        id,
        event_id=f"e-{id}",
        outcome="transient",
        state="in_flight",
        tier="1m",
        at=THEN,
        not_before=THEN + timedelta(minutes=1),
    )


async def look(kafka: str, dsn: str) -> Sequence[tuple[str, str, str, bool]]:
    """What `everpost ledger --stuck` names: kind, event or subject, topic, and whether it waits in line."""
    environment = {**os.environ, "EVERPOST_BOOTSTRAP_SERVERS": kafka, "EVERPOST_POSTGRES_DSN": dsn}
    done = run(environment, "ledger", "--stuck", "--by-hour", "--json")
    assert done.returncode == 1, done.stderr
    assert not [hour for hour in last(done)["hours"] if hour["missing"]]
    return [
        (one["kind"], one["event_id"] or one["subject"], one["topic"], one["queued"])
        for one in last(done)["stuck"]
    ]


async def fill(pool: asyncpg.Pool) -> None:
    """One of each kind that stands still, beside one that is delivered and one that is recent."""
    decisions = [
        plan("lost", "sms", 0),
        plan("line", "apns", 1),
        plan("retried", "sms", 2),
        plan("done", "sms", 3),
        decision("e-new", source_offset=4, source_partition=3, deliveries=(), verdict="expired"),
        plan("gone", "sms", 5, verdict="held", reason="due", deliveries=(), due_at=THEN),
        plan("asleep", "sms", 6, verdict="held", reason="due", deliveries=(), due_at=THEN),
    ]
    await PostgresLog(pool).write(decisions, [waiting("retried"), outcome("done", event_id="e-done")])
    timer = Timer(topic=EVENTS, partition=3, offset=6, wake_at=THEN, key=b"k", value=b"v")
    await PostgresTimers(pool).store([timer])
    async with transaction(pool) as connection:
        await outbox.enqueue(connection, event("e-box"), catalogue=CATALOGUE)
        await connection.execute("update everpost.outbox set created_at = $1", THEN)


async def test_what_stands_still_is_found_where_it_is(own_kafka: str, postgres: str) -> None:
    """Lost or in line, by topic; what has moved is not named."""
    put(own_kafka, SMS, APNS, EVENTS, retry("1m"))
    read_to_the_end(own_kafka, "everpost.send.sms", SMS)
    # What was written just now belongs to nobody who stands still, and moves on.
    put(own_kafka, SMS, OUTCOMES, at=datetime.now(UTC))  # noqa: TID251 - as above
    async with migrated(postgres) as pool:
        await fill(pool)
        read_to_the_end(own_kafka, "everpost.account", OUTCOMES)
        assert sorted(await look(own_kafka, postgres)) == [
            ("delivery", "e-line", APNS, True),
            ("delivery", "e-lost", SMS, False),
            ("delivery", "e-retried", retry("1m"), True),
            ("held", "e-asleep", "timer", True),
            ("held", "e-gone", "notification.holds", False),
            ("outbox", "e-box", "outbox", True),
            ("undecided", f"{EVENTS}/0/0", EVENTS, True),
        ]
        await PostgresLog(pool).write([], [outcome("lost", event_id="e-lost")])
        assert [one[1] for one in await look(own_kafka, postgres) if not one[3]] == ["e-gone"]


async def test_what_is_lost_is_driven_again_once(own_kafka: str, postgres: str) -> None:
    """From the topic it was last seen on, as the same attempt; a dry run and a second order send nothing."""
    environment = {**os.environ, "EVERPOST_BOOTSTRAP_SERVERS": own_kafka, "EVERPOST_POSTGRES_DSN": postgres}
    email = deliver("email", "normal")
    ids = {name: str(uuid4()) for name in ("lost", "over", "done")}
    producer = Producer({"bootstrap.servers": own_kafka})
    for name, id in ids.items():
        expires_at = THEN if name == "over" else None
        sent = delivery(f"e-{id}", delivery_id=id, channel="email", expires_at=expires_at)
        at = int(THEN.timestamp() * 1000)
        producer.produce(email, WIRE.encode(sent), b"acme/u-1", 0, timestamp=at)
    assert producer.flush(60) == 0
    read_to_the_end(own_kafka, "everpost.send.email", email)
    async with migrated(postgres) as pool:
        log = PostgresLog(pool)
        await log.write([plan(id, "email", n) for n, id in enumerate(ids.values())], [])
        await log.write([], [outcome(ids["done"], event_id=f"e-{ids['done']}")])
        read_to_the_end(own_kafka, "everpost.account", OUTCOMES)
        for options, counts in (
            (("--all", "--dry-run"), {"expired": 1, "suppressed": 1}),  # nobody is registered
            ((ids["lost"], "--why", "a test"), {"sent": 1}),
            (("--all", "--why", "a test"), {"sent": 1, "replayed": 2}),
            (("--all", "--why", "a test"), {"replayed": 4}),
        ):
            done = run(environment, "ledger", "redrive", *options, "--json")
            assert done.returncode == 0, done.stderr
            assert last(done)["counts"] == counts
        refused = run(environment, "ledger", "redrive", ids["done"], "--why", "a test")
        assert "nothing that is lost is named" in refused.stderr
        await log.write([], [outcome(ids[name], event_id=f"e-{ids[name]}") for name in ("lost", "over")])
        done = run(environment, "ledger", "redrive", "--all", "--why", "a test", "--json")
        assert (done.returncode, last(done)["sent"]) == (0, 0)
    found = [WIRE.decode(Delivery, m.value() or b"") for m in read_topic(own_kafka, email)]
    assert Counter(one.delivery_id for one in found) == {ids["lost"]: 2, ids["over"]: 2, ids["done"]: 1}
    assert {one.attempt for one in found} == {1}


async def test_what_the_log_has_forgotten_is_not_driven_again(own_kafka: str, postgres: str) -> None:
    """As after PostgreSQL was restored from an older backup: the topics tell that all three have ended since."""
    environment = {**os.environ, "EVERPOST_BOOTSTRAP_SERVERS": own_kafka, "EVERPOST_POSTGRES_DSN": postgres}
    bulk, fcm, id = "notification.events.bulk", deliver("fcm", "normal"), str(uuid4())
    place: dict[str, Any] = {"source_topic": bulk, "source_partition": 0, "decided_at": THEN}
    put(own_kafka, fcm, bulk, bulk, bulk)
    for topic, group in ((fcm, "everpost.send.fcm"), (bulk, "everpost.route")):
        read_to_the_end(own_kafka, group, topic)
    planned = (Planned(delivery_id=id, channel="fcm", address_id="a-1"),)
    known = [
        decision("e-0", source_offset=0, deliveries=planned, **place),
        decision("e-2", source_offset=2, verdict="held", reason="due", due_at=THEN, **place),
    ]
    since = [
        decision("e-1", source_offset=1, **place),
        decision("e-2", source_topic=RELEASED, source_offset=0, release_of=f"{bulk}/0/2", decided_at=THEN),
    ]
    producer = Producer({"bootstrap.servers": own_kafka})
    for one in since:
        producer.produce(DECISIONS, WIRE.encode(one), b"acme/u-1", 0)
    producer.produce(OUTCOMES, WIRE.encode(outcome(id, event_id="e-0", at=THEN)), b"acme/u-1", 0)
    assert producer.flush(60) == 0
    async with migrated(postgres) as pool:
        log = PostgresLog(pool)
        await log.write(known, [])
        for topic in (DECISIONS, OUTCOMES):
            read_to_the_end(own_kafka, "everpost.account", topic)
        done = run(environment, "ledger", "redrive", "--all", "--why", "a test")
        assert "3 of them" in done.stderr
        assert "older backup" in done.stderr
        await log.write([since[1]], [outcome(id, event_id="e-0", at=THEN)])
        done = run(environment, "ledger", "redrive", "--all", "--why", "a test")
        assert f"1 of them ({bulk}/0/1)" in done.stderr
    assert len(read_topic(own_kafka, bulk)) == 3


async def test_one_process_watches_and_another_takes_over(postgres: str) -> None:
    """By a lock that ends with the connection, also when it is cut."""
    async with migrated(postgres) as pool:
        first, second = Lead(pool), Lead(pool)
        assert (await first.mine(), await second.mine(), await first.mine()) == (True, False, True)
        first.close()
        deadline = time.monotonic() + 60
        while not await second.mine():
            assert time.monotonic() < deadline
        assert not await first.mine()
        async with pool.acquire(timeout=10) as connection:
            assert await connection.fetchval(CUT, timeout=10)
            await connection.execute("select pg_sleep(0.2)", timeout=10)  # the loop hears of the end
        with pytest.raises(DependencyDown):
            await second.mine()
        while not await first.mine():
            assert time.monotonic() < deadline
        first.close()
