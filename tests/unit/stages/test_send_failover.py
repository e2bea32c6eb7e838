"""Two providers of one channel: when one is away all goes by the other, and nothing goes by both."""

import asyncio
import json
from datetime import timedelta

from connectors.contract import Accepted, ChannelFault, Message, Outcome, Transient, Uncertain
from pipeline.model.breaker import Limits
from pipeline.model.delivery import Delivery
from pipeline.model.topics import DEAD, STANDINGS, retry
from pipeline.stages.send.ways import Provider
from tests.support.make import NOW, profile
from tests.support.sending import WIRE, MemoryProfiles, Rig, ScriptedConnector, delivery, eventually, record

LIMITS = Limits(least=4, first_wait=0.1, longest_wait=0.2, ramp=0.5)
DOWN = Transient(reason="busy", code="503")


class Named(ScriptedConnector):
    """Answers the same to everybody until that changes."""

    def __init__(self, name: str, answer: Outcome | None = None) -> None:
        super().__init__()
        self.name = name
        self.answer = answer

    async def send(self, message: Message) -> Outcome:
        """One request."""
        self.sent.append(message)
        await asyncio.sleep(0)
        return self.answer or Accepted()


def rig(first: Named, second: Named, **changes: object) -> Rig:
    """A sender of SMS with a stand-by."""
    return Rig(first, others=(second,), channel="sms", in_flight=8, breaker=LIMITS, **changes)  # pyright: ignore[reportArgumentType]


def sms(number: int, **changes: object) -> Delivery:
    """One of many."""
    return delivery(f"e-{number}", "sms", **changes)


def by(of: Rig) -> dict[str, str]:
    """The provider that took each delivery."""
    return {one.delivery_id: one.provider for one in of.told() if one.outcome == "delivered"}


async def test_an_outage_of_the_first_goes_by_the_second_and_back() -> None:
    """While the first refuses, the stand-by takes everything; well again, the first takes everything back."""
    first, second = Named("vonage", DOWN), Named("twilio")
    of = rig(first, second)
    of.kafka.write(*(record(sms(n)) for n in range(300)))
    async with of.running():
        await eventually(lambda: of.committed() == 300, 60)
        refused = [one for one in of.told() if one.outcome == "transient"]
        assert len(refused) <= 16  # what was out before the breaker opened climbs the ladder
        assert len(second.sent) == len({one.delivery_id for one in second.sent}) == 300 - len(refused)
        first.answer = None
        for n in range(300, 4_000):
            of.kafka.write(record(sms(n)))
            await eventually(lambda n=n: of.committed() == n + 1, 60)
            if len(by(of)) > 320 and list(by(of).values())[-20:] == ["vonage"] * 20:
                break
        else:
            raise AssertionError("the first never got everything back")
    assert of.kafka.read(DEAD) == []
    turned = [json.loads(one.value or b"") for one in of.kafka.read(STANDINGS)]
    assert {(one["provider"], one["state"]) for one in turned} >= {("vonage", "open"), ("twilio", "closed")}


async def test_a_channel_fault_of_the_first_burns_nothing() -> None:
    """With its credential refused, every delivery is delivered by the second, on its first attempt."""
    first, second = Named("vonage", ChannelFault(reason="set the key")), Named("twilio")
    of = rig(first, second)
    of.kafka.write(*(record(sms(n)) for n in range(100)))
    async with of.running():
        await eventually(lambda: of.committed() == 100, 60)
    assert {(one.provider, one.outcome, one.attempt) for one in of.told()} == {("twilio", "delivered", 1)}
    assert len(second.sent) == 100


async def test_what_one_may_have_taken_never_goes_by_another() -> None:
    """A push whose answer was lost carries its provider's name, and waits for it beside the others' traffic."""
    first, second = Named("apns", Uncertain(reason="hung up")), Named("other")
    never = Limits(least=4, first_wait=3600.0)  # nobody probes
    of = Rig(first, others=(second,), in_flight=8, breaker=never, profiles=MemoryProfiles(profile("u-1")))
    of.kafka.write(*(record(delivery(f"e-{n}")) for n in range(100)))
    async with of.running():
        await eventually(lambda: of.committed() == 100, 60)
        lost = {one.delivery_id for one in of.told() if one.outcome == "uncertain"}
        again = [WIRE.decode(Delivery, one.value) for one in of.kafka.read(retry("10s"))]
        assert {(one.provider, one.attempt) for one in again} == {("apns", 2)}
        assert {one.delivery_id for one in again} == lost
        of.kafka.write(*(record(one) for one in again))
        await eventually(lambda: of.committed() == 100 + len(again), 60)
    assert len(lost) >= 4
    assert not lost & {message.delivery_id for message in second.sent}
    parked = [one for one in of.told() if one.outcome == "transient"]
    assert parked
    assert {(one.provider, one.attempt, one.tier) for one in parked} == {("", 2, "10s")}


async def test_a_parked_delivery_keeps_its_number_and_expires_in_time() -> None:
    """It comes back as the same attempt, and not at all once it is too late."""
    first, second = Named("vonage", ChannelFault(reason="set the key")), Named("twilio")
    of = rig(first, second, probe_after=3600.0)
    of.kafka.write(record(sms(0)))
    meant = {"provider": "vonage", "attempt": 2}
    async with of.running():
        await eventually(lambda: of.committed() == 1, 60)
        of.kafka.write(record(sms(1, **meant)))
        of.kafka.write(record(sms(2, **meant, expires_at=NOW + timedelta(seconds=5))))
        of.kafka.write(record(sms(3, provider="pigeons")))
        await eventually(lambda: of.committed() == 4, 60)
    states = {one.event_id: (one.outcome, one.state) for one in of.told()}
    assert states["e-2"] == ("transient", "expired")
    assert states["e-3"] == ("uncertain", "dead")
    (waiting,) = of.kafka.read(retry("10s"))
    assert (WIRE.decode(Delivery, waiting.value).attempt, len(second.sent)) == (2, 1)


async def test_a_share_by_weight() -> None:
    """Two providers with weights both get their part while both are well."""
    first, second = Named("vonage"), Named("twilio")
    of = rig(
        first,
        second,
        providers=(Provider(connector=first, weight=3), Provider(connector=second, weight=1)),
    )
    of.kafka.write(*(record(sms(n)) for n in range(200)))
    async with of.running():
        await eventually(lambda: of.committed() == 200, 60)
    assert 30 <= len(second.sent) <= 70
    assert len(first.sent) + len(second.sent) == 200
