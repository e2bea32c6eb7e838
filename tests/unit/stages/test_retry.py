"""The retry stage: due in order, never early, never slept on, nothing lost."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.model.ladder import TIERS, Tier
from pipeline.model.outcome import Outcome
from pipeline.model.record import Outgoing
from pipeline.model.topics import DEAD, OUTCOMES, retry
from pipeline.observe import Meter
from pipeline.stages.retry import step
from pipeline.stages.retry.decide import Expired, Forward, Round, Wait, decide
from pipeline.stages.retry.step import Retrier, run, topics
from tests.support.make import NOW
from tests.support.memory_kafka import MemoryConsumer, MemoryKafka, MemoryProducer
from tests.support.sending import WIRE, HandClock, delivery, eventually, record

SECOND = timedelta(seconds=1)
TEN, MINUTE = TIERS[0], TIERS[1]
OUT = "notification.deliver.apns.normal"


def test_due_when_the_tier_is_over() -> None:
    """Wait, then forward; whatever expires first ends."""
    waiting = delivery(attempt=2, not_before=NOW + 10 * SECOND)
    table = [
        (waiting, 0, Wait(until=NOW + 10 * SECOND)),
        (waiting, 9, Wait(until=NOW + 10 * SECOND)),
        (waiting, 10, Forward()),
        (waiting, 500, Forward()),
        (replace(waiting, not_before=None), 9, Wait(until=NOW + 10 * SECOND)),
        (replace(waiting, not_before=None), 10, Forward()),
        (replace(waiting, not_before=NOW + 4 * SECOND), 5, Forward()),  # written under a faster ladder
        (replace(waiting, expires_at=NOW + 5 * SECOND), 5, Expired()),  # before it is due
        (replace(waiting, expires_at=NOW + 11 * SECOND), 11, Expired()),
        (replace(waiting, not_before=NOW + 40 * SECOND), 10, Round(tier=MINUTE)),  # 30 s are left
        (replace(waiting, not_before=NOW + timedelta(days=1)), 10, Round(tier=TIERS[-1])),
    ]
    for one, after, expected in table:
        assert decide(one, NOW, NOW + after * SECOND, TEN) == expected


@given(
    tier=st.sampled_from(TIERS),
    asked=st.timedeltas(timedelta(0), timedelta(days=1)),
    step=st.timedeltas(timedelta(0), timedelta(hours=30)),
)
def test_never_early(tier: Tier, asked: timedelta, step: timedelta) -> None:
    """Through however many tiers, a delivery leaves only when its provider's wait is over."""
    one = delivery(attempt=2, not_before=NOW + asked)
    written = now = NOW
    for _ in range(100):
        found = decide(one, written, now, tier)
        match found:
            case Wait(until=until):
                assert until > now
                now = until + step
            case Round(tier=tier):
                written = now
            case _:
                assert now >= NOW + asked
                return
    raise AssertionError("it went round and round")


class Rig:
    """A retry stage in memory."""

    def __init__(self) -> None:
        self.clock = HandClock()
        self.kafka = MemoryKafka(self.clock)
        self.consumer = MemoryConsumer(self.kafka, topics(TIERS))

    @asynccontextmanager
    async def running(self) -> AsyncGenerator[None]:
        """Stopped at the end as by SIGTERM."""
        retrier = Retrier(
            consumer=self.consumer,
            producer=MemoryProducer(self.kafka),
            wire=WIRE,
            clock=self.clock,
            tiers=TIERS,
            meter=Meter(),
        )
        stop = asyncio.Event()
        task = asyncio.create_task(run(retrier, stop))
        try:
            yield
        finally:
            stop.set()
            await asyncio.wait_for(task, 3)

    def wait_in(self, tier: Tier, event_id: str, **changes: Any) -> Outgoing:
        """A delivery that has just entered a tier."""
        values: dict[str, Any] = {"attempt": 2, "not_before": self.clock.now + tier.delay, **changes}
        written = record(delivery(event_id, **values), retry(tier.name))
        self.kafka.write(written)
        return written

    def committed(self, tier: Tier) -> int:
        """Where the group reads on."""
        return self.kafka.committed.get((retry(tier.name), 0), 0)


async def test_due_in_order_and_unchanged() -> None:
    """Each leaves when it is due, in order, with the very bytes it came with; tiers do not wait for each other."""
    rig = Rig()
    first = rig.wait_in(TEN, "e-1")
    slow = rig.wait_in(MINUTE, "e-2")
    rig.clock.move(5 * SECOND)
    second = rig.wait_in(TEN, "e-3")
    async with rig.running():
        await eventually(lambda: rig.consumer.paused == {(retry("10s"), 0), (retry("1m"), 0)})
        assert rig.kafka.read(OUT) == []
        rig.clock.move(5 * SECOND)
        await eventually(lambda: rig.committed(TEN) == 1)
        assert [one.value for one in rig.kafka.read(OUT)] == [first.value]
        rig.clock.move(5 * SECOND)
        await eventually(lambda: rig.committed(TEN) == 2)
        assert rig.consumer.paused == {(retry("1m"), 0)}
        rig.clock.move(45 * SECOND)
        await eventually(lambda: rig.committed(MINUTE) == 1)
    assert [one.value for one in rig.kafka.read(OUT)] == [first.value, second.value, slow.value]
    assert {one.key for one in rig.kafka.read(OUT)} == {b"acme/u-1"}


async def test_nobody_overtakes_in_a_tier() -> None:
    """A record that is due behind one that is not waits for it: offsets and order stay as they are."""
    rig = Rig()
    first = rig.wait_in(TEN, "e-1")
    second = rig.wait_in(TEN, "e-2", not_before=NOW)
    async with rig.running():
        await eventually(lambda: rig.consumer.busy == 2)
        assert rig.kafka.read(OUT) == []
        rig.clock.move(10 * SECOND)
        await eventually(lambda: rig.committed(TEN) == 2)
    assert [one.value for one in rig.kafka.read(OUT)] == [first.value, second.value]


async def test_what_expired_ends_with_an_outcome() -> None:
    """Not forwarded, not dead: expired, under the number of the attempt that it never had."""
    rig = Rig()
    rig.wait_in(TEN, "e-1", expires_at=NOW + 3 * SECOND, attempt=4)
    async with rig.running():
        rig.clock.move(3 * SECOND)
        await eventually(lambda: rig.committed(TEN) == 1)
    (told,) = [WIRE.decode(Outcome, one.value) for one in rig.kafka.read(OUTCOMES)]
    assert (told.outcome, told.state, told.attempt, told.provider) == ("expired", "expired", 4, "")
    assert rig.kafka.read(OUT) == rig.kafka.read(DEAD) == []


async def test_a_longer_wait_goes_round() -> None:
    """What asked for more than its tier waits on in another, and leaves no earlier than asked."""
    rig = Rig()
    rig.wait_in(TEN, "e-1", not_before=NOW + 50 * SECOND)
    async with rig.running():
        rig.clock.move(10 * SECOND)
        await eventually(lambda: rig.committed(TEN) == 1)
        assert len(rig.kafka.read(retry("1m"))) == 1
        rig.clock.move(39 * SECOND)
        await asyncio.sleep(0.02)
        assert rig.kafka.read(OUT) == []
        rig.clock.move(SECOND)
        await eventually(lambda: len(rig.kafka.read(OUT)) == 1)


@pytest.mark.parametrize("value", [None, b"junk", WIRE.encode(delivery(lane="express"))])
async def test_poison_is_kept_and_passed(value: bytes | None) -> None:
    """What nobody can read or has no topic to go to is a dead letter, and the next one is forwarded."""
    rig = Rig()
    rig.kafka.write(Outgoing(topic=retry("10s"), key=b"k", value=value))
    rig.wait_in(TEN, "e-1")
    async with rig.running():
        rig.clock.move(10 * SECOND)
        await eventually(lambda: rig.committed(TEN) == 2)
    (letter,) = rig.kafka.read(DEAD)
    assert (letter.key, letter.value) == (b"k", value)
    assert dict(letter.headers)["__dlq.errors.stage"] == b"retry"
    assert len(rig.kafka.read(OUT)) == 1


async def test_a_new_assignment_starts_over() -> None:
    """What was held when the partition went away is read again, and forwarded once."""
    rig = Rig()
    rig.wait_in(TEN, "e-1")
    rig.wait_in(TEN, "e-2")
    async with rig.running():
        await eventually(lambda: rig.consumer.busy == 2)
        rig.consumer.assign()
        await eventually(lambda: rig.consumer.busy == 2)
        rig.clock.move(10 * SECOND)
        await eventually(lambda: rig.committed(TEN) == 2)
    assert len(rig.kafka.read(OUT)) == 2


async def test_kafka_away_loses_nothing() -> None:
    """What is due while Kafka is away goes out when it is back."""
    rig = Rig()
    rig.wait_in(TEN, "e-1")
    async with rig.running():
        await eventually(lambda: rig.consumer.busy == 1)
        rig.kafka.down = True
        rig.clock.move(10 * SECOND)
        await asyncio.sleep(0.02)
        rig.kafka.down = False
        await eventually(lambda: rig.committed(TEN) == 1)
    assert len(rig.kafka.read(OUT)) == 1


async def test_nothing_is_committed_before_it_is_acknowledged(monkeypatch: pytest.MonkeyPatch) -> None:
    """While Kafka takes offsets and no records, no offset moves: a process that dies then loses nothing."""
    monkeypatch.setattr(step, "_AWAY", 0.001)
    rig = Rig()
    rig.wait_in(TEN, "e-1")
    rig.kafka.refusing = True
    rig.clock.move(10 * SECOND)
    async with rig.running():
        await eventually(lambda: rig.kafka.refused >= 2)
        assert rig.committed(TEN) == 0
        rig.kafka.refusing = False
        await eventually(lambda: rig.committed(TEN) == 1)
    assert len(rig.kafka.read(OUT)) == 1
