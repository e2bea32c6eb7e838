"""Lost events and holds, driven again under a real router and account stage: each is decided once."""

import os
from collections import Counter
from collections.abc import Generator, Mapping, Sequence
from datetime import timedelta
from typing import Any

import asyncpg
import pytest

from pipeline.adapters.postgres.pool import session, transaction
from pipeline.adapters.postgres.profiles import save_profiles
from pipeline.adapters.wire.codec import Wire
from pipeline.adapters.wire.ids import LockFile
from pipeline.model.decision import Decision
from pipeline.model.delivery import Delivery
from pipeline.model.topics import DECISIONS, HOLDS, deliver
from pipeline.sdk import Client, new_event
from pipeline.settings import Settings
from pipeline.wiring import catalogue, clock
from tests.support import services
from tests.support.commands import FLIGHT, last, run, stage
from tests.support.database import migrated
from tests.support.eventually import eventually
from tests.support.groups import read_to_the_end
from tests.support.make import profile
from tests.support.topics import create_topics, read_topic

pytestmark = pytest.mark.integration
EVENTS = "notification.events.normal"
TENANT = "lost"
WIRE = Wire(LockFile())
WHY = ("--why", "a test")
DATA = {name: value for name, _, value in (word.partition("=") for word in FLIGHT)}
EARLIER = """
update everpost.decision_log set decided_at = decided_at - interval '1 hour', due_at = due_at - interval '1 hour'
where verdict = 'held'
"""


@pytest.fixture
def own_kafka() -> Generator[str]:
    """A broker whose groups nobody else moves."""
    with services.broker() as servers:
        create_topics(servers)
        yield servers


class Place:
    """A broker and a database, with what people type and what services publish."""

    def __init__(self, kafka: str, postgres: str, pool: asyncpg.Pool, client: Client) -> None:
        self.kafka = kafka
        self.postgres = postgres
        self.pool = pool
        self._client = client
        self._environment = {
            **os.environ,
            "EVERPOST_BOOTSTRAP_SERVERS": kafka,
            "EVERPOST_POSTGRES_DSN": postgres,
            "EVERPOST_WATCH_PATIENCE": "0.001",
        }

    async def publish(self, user_id: str, *event_ids: str, **times: Any) -> None:
        """Events of one user, which meet in one partition."""
        for event_id in event_ids:
            event = new_event(
                "flight.cancelled",
                tenant=TENANT,
                user_id=user_id,
                data=DATA,
                event_id=event_id,
                created_at=clock(),
                **times,
            )
            await self._client.publish(event)

    def ledger(self, *words: str, code: int) -> Mapping[str, Any]:
        """What `everpost ledger` answers."""
        done = run(self._environment, "ledger", *words, "--json")
        assert done.returncode == code, done.stdout + done.stderr
        return last(done)

    def lost(self) -> Sequence[Mapping[str, Any]]:
        """What the watch calls lost."""
        return [one for one in self.ledger("--stuck", code=1)["stuck"] if not one["queued"]]

    def redrive(self, *words: str) -> Mapping[str, int]:
        """What has become of everything that was meant, by fate."""
        return self.ledger("redrive", *words, code=0)["counts"]

    async def decided(self, count: int) -> None:
        """Wait until the log has so many decisions."""

        async def there() -> bool:
            async with session(self.pool) as connection:
                return await connection.fetchval("select count(*) from everpost.decision_log") == count

        await eventually(there)

    def verdicts(self) -> Mapping[tuple[str, str], int]:
        """How often each event was decided how, by the topic itself."""
        found = [WIRE.decode(Decision, m.value() or b"") for m in read_topic(self.kafka, DECISIONS)]
        return Counter((one.event_id, one.verdict) for one in found)

    def deliveries(self) -> Counter[str]:
        """How often each event's delivery was handed to the sender."""
        found = read_topic(self.kafka, deliver("sms", "normal"))
        return Counter(WIRE.decode(Delivery, m.value() or b"").event_id for m in found)


@pytest.fixture
async def place(own_kafka: str, postgres: str) -> Any:
    """With one user who hears by SMS."""
    types = catalogue(Settings()).types
    async with migrated(postgres) as pool, Client(own_kafka, catalogue=types, encoder=WIRE) as client:
        async with transaction(pool) as connection:
            await save_profiles(
                connection, [profile(user, ["sms"], tenant=TENANT) for user in ("u-1", "u-2")]
            )
        yield Place(own_kafka, postgres, pool, client)


async def test_what_is_lost_is_decided_once(place: Place) -> None:
    """Passed by the router or without a timer: named, driven again, balanced; a second order sends nothing."""
    async with stage("account", place.kafka, place.postgres):
        await at_the_end_of_a_partition(place)
        async with stage("route", place.kafka, place.postgres):
            await between_others(place)
            await without_a_timer(place)
    found = place.ledger("--stuck", "--by-hour", code=0)
    assert (found["accepted"], found["missing"]) == (6, [])
    assert {one["kind"] for one in found["stuck"]} == {"delivery"}  # no sender runs here
    assert place.ledger("redrive", "--all", *WHY, code=0)["sent"] == 0
    held = {("h-1", "held"): 1, ("h-1", "deliver"): 1, ("h-2", "held"): 1, ("h-2", "expired"): 1}
    assert place.verdicts() == {**{(f"e-{n}", "deliver"): 1 for n in range(1, 5)}, **held}
    assert place.deliveries() == dict.fromkeys(("e-1", "e-2", "e-3", "e-4", "h-1"), 1)


async def at_the_end_of_a_partition(place: Place) -> None:
    """Two events of one user and one of another are passed; the first two are driven again, the router is away."""
    await place.publish("u-1", "e-1", "e-2")
    await place.publish("u-2", "e-3")
    read_to_the_end(
        place.kafka, "everpost.route", EVENTS
    )  # as an operator who resets the group to the latest
    lost = place.lost()
    assert [(one["kind"], one["topic"], one["records"]) for one in lost] in (
        [("undecided", EVENTS, 1), ("undecided", EVENTS, 2)],
        [("undecided", EVENTS, 2), ("undecided", EVENTS, 1)],
    )
    (subject,) = [one["subject"] for one in lost if one["records"] == 2]
    assert place.redrive(subject, *WHY) == {"sent": 2}
    found = place.ledger("--stuck", code=0)  # these two are in line now, and count once
    assert (found["accepted"], found["undecided"], found["balanced"]) == (3, 3, True)
    assert {one["queued"] for one in found["stuck"]} == {True}


async def between_others(place: Place) -> None:
    """What later events have overtaken is missing by its place, until it is driven again."""
    await place.publish("u-2", "e-4")
    await place.decided(3)
    found = place.ledger(code=1)
    assert len(found["holes"]) == 1
    assert (found["accepted"], found["final"] + found["in_flight"]) == (4, 3)
    assert place.redrive("e-3", *WHY) == {"sent": 1}
    await place.decided(4)


async def without_a_timer(place: Place) -> None:
    """One that is due and one that is over by now are released to the router, which says so."""
    due = clock() + timedelta(seconds=1)
    await place.publish("u-1", "h-1", deliver_at=due)
    await place.publish("u-1", "h-2", deliver_at=due, expires_at=due + timedelta(seconds=1))
    await place.decided(6)
    read_to_the_end(place.kafka, "everpost.hold", HOLDS)
    async with session(place.pool) as connection:
        await connection.execute(EARLIER)  # the watch gives what was decided just now a minute

    async def over() -> bool:
        return clock() > due + timedelta(seconds=1)

    await eventually(over)
    assert [(one["kind"], one["event_id"], one["topic"]) for one in place.lost()] == [
        ("held", "h-1", HOLDS),
        ("held", "h-2", HOLDS),
    ]
    assert place.redrive("--all", "--dry-run") == {"sent": 1, "expired": 1}
    assert place.redrive("h-1", "h-2", *WHY) == {"sent": 2}
    await place.decided(8)
