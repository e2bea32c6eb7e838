"""More partitions on a real broker: refused while anything would be forgotten, and never by halves."""

import asyncio
import os
import secrets
import signal
import subprocess
from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from itertools import pairwise

import pytest
from confluent_kafka import Producer
from confluent_kafka.admin import AdminClient, NewPartitions, NewTopic
from hypothesis import given
from hypothesis import strategies as st

from pipeline.adapters.kafka.grow import Remembered, grow, partition_of, remembered, require_alike
from pipeline.adapters.wire.codec import Wire
from pipeline.adapters.wire.ids import LockFile
from pipeline.model.decision import Decision
from pipeline.model.errors import ConfigurationError
from pipeline.model.event import user_key
from pipeline.model.topics import DECISIONS, events
from pipeline.sdk import Client, new_event
from pipeline.settings import Settings
from pipeline.wiring import catalogue
from tests.support.commands import EVERPOST, FLIGHT, last, run
from tests.support.services import broker, until
from tests.support.topics import read_tenant

pytestmark = pytest.mark.integration
TENANT = "grow"
USERS = [f"u-{n}" for n in range(12)]
_ANSWER = 60.0  # seconds


@pytest.fixture
def names(kafka: str) -> Sequence[str]:
    """Two topics of the test's own with two partitions each: decisions, then events."""
    prefix = f"test-{secrets.token_hex(4)}"
    found = [f"{prefix}.decisions", f"{prefix}.events"]
    admin = AdminClient({"bootstrap.servers": kafka})  # has to outlive what it promised
    made = admin.create_topics([NewTopic(name, 2, 1) for name in found])
    for answer in made.values():
        answer.result(_ANSWER)
    return found


def produce(servers: str, topic: str, keys: Sequence[bytes | None]) -> None:
    """Write a record for each key, as the pipeline's producers place them, in one transaction and an aborted one."""
    producer = Producer(
        {
            "bootstrap.servers": servers,
            "partitioner": "murmur2_random",
            "transactional.id": secrets.token_hex(4),
        }
    )
    producer.init_transactions(_ANSWER)
    for end in (producer.abort_transaction, producer.commit_transaction):
        producer.begin_transaction()
        for key in keys:
            producer.produce(topic, b"x", key)
        producer.flush(_ANSWER)
        end(_ANSWER)


@given(st.binary(min_size=1), st.integers(1, 50), st.integers(2, 6))
def test_with_a_multiple_a_key_stays_or_goes_to_a_new_partition(key: bytes, now: int, times: int) -> None:
    """The same key is always in one place, and a multiple of the number parts each partition's keys alone."""
    assert partition_of(key, now) == partition_of(key, now * times) % now


def test_what_would_be_forgotten_is_counted_exactly(kafka: str, names: Sequence[str]) -> None:
    """By the keys of committed decisions within the window; where a producer puts them is what we compute."""
    keys = [user_key(TENANT, f"u-{n}") for n in range(40)]
    produce(kafka, names[0], [*keys, *keys, None])
    moving = {key for key in keys if partition_of(key, 3) != partition_of(key, 2)}
    now = datetime.now(UTC)  # noqa: TID251 - the broker's clock
    found = remembered(kafka, names[0], 3, now - timedelta(days=7))
    assert (found.decisions, found.moving, found.users) == (81, 2 * len(moving), len(moving))
    assert found.latest is not None
    assert abs(found.latest - now) < timedelta(minutes=1)
    assert remembered(kafka, names[0], 2, now - timedelta(days=7)) == Remembered(decisions=81)
    assert remembered(kafka, names[0], 3, now + timedelta(days=1)) == Remembered()


def test_topics_grow_in_order_and_again_is_harmless(kafka: str, names: Sequence[str]) -> None:
    """Who has as many stays; what a crash left undone is done by the same command."""
    require_alike(kafka, [*names, "test-nobody"])
    assert grow(kafka, names[:1], 4) == (names[0],)
    until(lambda: _differ(kafka, names))
    with pytest.raises(ConfigurationError, match=rf"{names[0]} has 4, {names[1]} has 2.*topics grow 4"):
        require_alike(kafka, names)
    assert grow(kafka, names, 4) == (names[1],)
    until(lambda: not _differ(kafka, names))
    assert grow(kafka, names, 4) == ()


def _differ(servers: str, names: Sequence[str]) -> bool:
    found = AdminClient({"bootstrap.servers": servers}).list_topics(timeout=_ANSWER).topics
    return any(len(found[a].partitions) != len(found[b].partitions) for a, b in pairwise(names))


@contextmanager
def router(environment: Mapping[str, str]) -> Generator[None]:
    """A real router, stopped in order."""
    process = subprocess.Popen([*EVERPOST, "run", "route"], env=environment)
    try:
        yield
    finally:
        process.send_signal(signal.SIGTERM)
        assert process.wait(30) == 0


def publish(servers: str, users: Sequence[str]) -> None:
    """One event for each user, with the user's name as its id."""

    async def work() -> None:
        types = catalogue(Settings()).types
        async with Client(servers, catalogue=types) as client:
            for user in users:
                data = {name: value for name, _, value in (pair.partition("=") for pair in FLIGHT)}
                await client.publish(
                    new_event("flight.cancelled", tenant=TENANT, user_id=user, event_id=user, data=data)
                )

    asyncio.run(work())


def decided(servers: str) -> list[Decision]:
    """What the router has decided so far."""
    wire = Wire(LockFile())
    return [wire.decode(Decision, message.value()) for message in read_tenant(servers, DECISIONS, TENANT)]


@pytest.fixture(scope="module")
def own() -> Generator[str]:
    """Bootstrap servers of a broker of this module's own: the command knows no other names of topics."""
    with broker() as servers:
        yield servers


def settings(servers: str, postgres: str, partitions: int) -> Mapping[str, str]:
    """The environment of the commands."""
    return {
        **os.environ,
        "EVERPOST_BOOTSTRAP_SERVERS": servers,
        "EVERPOST_POSTGRES_DSN": postgres,
        "EVERPOST_PARTITIONS": str(partitions),
    }


def test_the_command_never_forgets_silently(own: str, postgres: str) -> None:
    """A fresh system grows; a used one is refused with the exact loss, unless the operator takes that on."""
    two, four, six = (settings(own, postgres, n) for n in (2, 4, 6))
    assert "run everpost topics apply first" in run(two, "topics", "grow", "4").stderr
    assert run(two, "bootstrap").returncode == 0
    assert "nothing is forgotten" in run(two, "topics", "grow", "4").stdout
    until(lambda: run(four, "topics", "check").returncode == 0)
    assert "Kafka takes no partition away" in run(four, "topics", "grow", "2").stderr

    publish(own, USERS)
    assert "12 events and releases are not decided yet" in run(four, "topics", "grow", "6").stderr
    with router(four):
        until(lambda: len(decided(own)) == len(USERS), 60, 0.2)
        assert "1 routers run" in run(four, "topics", "grow", "6").stderr
    until(lambda: "routers run" not in run(four, "topics", "grow", "6").stderr)

    moving = {
        u for u in USERS if partition_of(user_key(TENANT, u), 6) != partition_of(user_key(TENANT, u), 4)
    }
    refused = run(four, "topics", "grow", "6")
    assert refused.returncode == 1
    assert f"nothing of {len(moving)} of the {len(USERS)} decisions" in refused.stdout
    assert run(four, "topics", "check").returncode == 0
    done = last(run(four, "topics", "grow", "6", "--forget", "--json"))
    assert (done["forgotten"]["moving"], done["grown"][-1]) == (len(moving), events("urgent"))
    until(lambda: run(six, "topics", "check").returncode == 0)

    publish(own, USERS)
    with router(six):
        until(lambda: len(decided(own)) == 2 * len(USERS), 60, 0.2)
    again = {d.event_id for d in decided(own) if d.verdict == "duplicate"}
    assert again == set(USERS) - moving  # what was said, and no more


def test_no_router_starts_while_partitions_differ(own: str, postgres: str) -> None:
    """Somebody grew one topic with Kafka's own tool: exit code 78, which topic, and what to do."""
    here = settings(own, postgres, 6)
    assert run(here, "bootstrap").returncode == 0
    change = NewPartitions(events("urgent"), 8)
    admin = AdminClient({"bootstrap.servers": own})
    admin.create_partitions([change])[events("urgent")].result(_ANSWER)
    until(lambda: f"{events('urgent')} has 8" in run(here, "topics", "check").stdout)
    stage = run(here, "run", "route")
    assert stage.returncode == 78
    assert f"{events('urgent')} has 8" in stage.stderr + stage.stdout
    assert "everpost topics grow 8" in stage.stderr + stage.stdout
