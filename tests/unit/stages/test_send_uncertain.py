"""An SMS whose answer was lost: it waits for its receipt, and nobody hears a second ring without a decision."""

from dataclasses import replace
from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from connectors.contract import Uncertain
from pipeline.model.catalogue import Category, WhenUncertain
from pipeline.model.dead import AWAITS_RECEIPT
from pipeline.model.delivery import Delivery
from pipeline.model.ladder import TIERS
from pipeline.model.record import Outgoing
from pipeline.model.topics import DEAD, deliver, retry
from pipeline.stages.send.decide import Verdict
from pipeline.stages.send.uncertain import waiting
from tests.support.make import CATALOGUE, NOW, profile
from tests.support.sending import (
    WIRE,
    MemoryProfiles,
    MemoryReceipts,
    Rig,
    ScriptedConnector,
    delivery,
    eventually,
    record,
)

LOST = Uncertain(reason="hung up")
GIVEN_UP = Verdict(result="uncertain", state="dead", disposition="uncertain")
SMS = delivery("e-1", "sms")


def rig(when: WhenUncertain = "give_up", **fates: str) -> Rig:
    """A sender of SMS whose first answer is lost, where receipts come in."""
    kind = CATALOGUE["flight.cancelled"]
    kind = replace(kind, category=replace(kind.category, uncertain=when))
    return Rig(
        ScriptedConnector(LOST),
        channel="sms",
        receipts=MemoryReceipts(**fates),
        profiles=MemoryProfiles(profile("u-1")),
        catalogue={**CATALOGUE, kind.name: kind},
    )


async def back(of: Rig, tier: str) -> Delivery:
    """Let the SMS wait in this tier, and come back as the retry stage brings it."""
    (waits,) = of.kafka.read(retry(tier))
    assert waits.headers == (AWAITS_RECEIPT,)
    of.kafka.write(
        Outgoing(topic=deliver("sms", "normal"), key=waits.key, value=waits.value, headers=waits.headers)
    )
    await eventually(lambda: of.committed() == 2, 60)
    return WIRE.decode(Delivery, waits.value)


@pytest.mark.parametrize(
    ("fate", "outcome", "state"),
    [
        ("delivered", "delivered", "delivered"),
        ("under_way", "delivered", "delivered"),
        ("failed", "permanent", "dead"),
        ("dead_address", "invalid_address", "dead"),
        ("opted_out", "permanent", "dead"),
    ],
)
async def test_the_receipt_settles_it(fate: str, outcome: str, state: str) -> None:
    """Whatever the provider told meanwhile is the outcome, and nothing is sent again."""
    of = rig("give_up", **{SMS.delivery_id: fate})
    of.kafka.write(record(SMS))
    async with of.running():
        await eventually(lambda: of.committed() == 1, 60)
        waiting = await back(of, "10m")
    assert (waiting.provider, waiting.attempt) == ("scripted", 2)
    first, last = of.told()
    assert (first.outcome, first.state, first.tier) == ("uncertain", "in_flight", "10m")
    assert (last.outcome, last.state, last.attempt, last.provider) == (outcome, state, 2, "scripted")
    assert len(of.connector.sent) == 1


async def test_without_a_receipt_it_is_given_up() -> None:
    """By default silence is the lesser evil: dead as uncertain, for an operator to replay."""
    of = rig()
    of.kafka.write(record(SMS))
    async with of.running():
        await eventually(lambda: of.committed() == 1, 60)
        await back(of, "10m")
    assert [one.state for one in of.told()] == ["in_flight", "dead"]
    assert dict(of.kafka.read(DEAD)[0].headers)["__dlq.errors.disposition"] == b"uncertain"
    assert len(of.connector.sent) == 1


async def test_a_category_may_want_it_repeated() -> None:
    """Then it is sent again after a minute without a receipt, once, under the same identity."""
    of = rig("repeat")
    of.kafka.write(record(SMS))
    async with of.running():
        await eventually(lambda: of.committed() == 1, 60)
        await back(of, "1m")
    assert [one.delivery_id for one in of.connector.sent] == [SMS.delivery_id] * 2
    assert of.told()[-1].state == "delivered"


async def test_it_waits_while_nobody_can_be_asked() -> None:
    """PostgreSQL away: neither sent again nor given up."""
    of = rig("repeat", **{SMS.delivery_id: "delivered"})
    assert of.receipts is not None
    of.kafka.write(record(SMS))
    async with of.running():
        await eventually(lambda: of.committed() == 1, 60)
        of.receipts.away = True
        (waits,) = of.kafka.read(retry("1m"))
        of.kafka.write(replace(waits, topic=deliver("sms", "normal")))
        await eventually(lambda: of.receipts is not None and of.receipts.asked >= 2, 60)
        assert of.committed() == 1
        of.receipts.away = False
        await eventually(lambda: of.committed() == 2, 60)
    assert len(of.connector.sent) == 1


async def test_where_no_receipts_come_in_nothing_waits() -> None:
    """Then it is given up at once, as ever."""
    of = replace(rig(), receipts=None)
    of.kafka.write(record(SMS))
    async with of.running():
        await eventually(lambda: of.committed() == 1, 60)
    assert [(one.outcome, one.state) for one in of.told()] == [("uncertain", "dead")]


@given(
    st.integers(1, 10),
    st.one_of(st.none(), st.integers(-100, 30_000)),
    st.sampled_from(["give_up", "repeat"]),
    st.integers(0, len(TIERS)),
)
def test_the_wait_ends_before_it_is_too_late(
    attempt: int, left: int | None, when: WhenUncertain, rungs: int
) -> None:
    """It waits on a rung that ends in time, as long as it may, or is given up; never longer than ten minutes."""
    expires = None if left is None else NOW + timedelta(seconds=left)
    sms, tiers = replace(SMS, attempt=attempt, expires_at=expires), TIERS[:rungs]
    found = waiting(sms, GIVEN_UP, Category(name="flights", uncertain=when), NOW, tiers)
    if found.climb is None:
        assert found == GIVEN_UP
        assert attempt > rungs or (left is not None and left <= 10)
        return
    assert (found.state, found.disposition, found.awaits) == ("in_flight", None, True)
    assert found.climb.tier in tiers[:3]
    assert found.climb.not_before == NOW + found.climb.tier.delay
    assert expires is None or found.climb.not_before < expires
