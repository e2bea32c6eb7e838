"""The breaker in the sender: while a provider is unwell deliveries wait, and no attempt is spent."""

import asyncio
import json

from connectors.contract import Accepted, Outcome, Throttled, Transient, Uncertain
from pipeline.model.breaker import Limits
from pipeline.model.topics import DEAD, STANDINGS
from tests.support.sending import Rig, ScriptedConnector, delivery, eventually, record

LIMITS = Limits(least=4, first_wait=0.2, longest_wait=0.4)
DOWN = Transient(reason="busy", code="503")


def states(rig: Rig) -> list[str]:
    """What was told of the way to the provider, in order."""
    return [json.loads(one.value or b"")["state"] for one in rig.kafka.read(STANDINGS)]


class Unwell(ScriptedConnector):
    """Answers the same to everybody until it is mended."""

    def __init__(self, answer: Outcome) -> None:
        super().__init__()
        self.answer: Outcome | None = answer

    async def send(self, message: object) -> Outcome:
        """One request."""
        self.sent.append(message)  # pyright: ignore[reportArgumentType] - only counted
        await asyncio.sleep(0)
        return self.answer or Accepted()


async def test_an_outage_costs_no_attempts_once_the_breaker_is_open() -> None:
    """Of 200 deliveries only those before the opening are retried; probes burn nothing; then all go out."""
    connector = Unwell(DOWN)
    rig = Rig(connector, in_flight=8, breaker=LIMITS)
    rig.kafka.write(*(record(delivery(f"e-{n}")) for n in range(200)))
    async with rig.running():
        await eventually(lambda: "open" in states(rig), 60)
        burned, asked = len(rig.told()), len(connector.sent)
        await eventually(lambda: len(connector.sent) > asked + 2, 60)  # probes
        assert len(rig.told()) == burned <= 16
        connector.answer = None
        await eventually(lambda: rig.committed() == 200, 60)
        await eventually(lambda: states(rig)[-1] == "closed", 60)
    assert rig.kafka.read(DEAD) == []
    told = rig.told()
    assert sum(one.outcome == "delivered" for one in told) == 200 - burned
    assert {one.attempt for one in told} == {1}


async def test_an_operator_holds_everything_back() -> None:
    """Ordered open, not even a probe goes; taken back, everything goes out on its first attempt."""
    rig = Rig(ScriptedConnector(), in_flight=4, breaker=LIMITS, order="open")
    rig.kafka.write(*(record(delivery(f"e-{n}")) for n in range(12)))
    async with rig.running():
        await eventually(lambda: states(rig) == ["open"], 60)
        await asyncio.sleep(0.3)  # longer than the wait for a probe
        assert rig.connector.sent == []
        rig.order = None
        await eventually(lambda: rig.committed() == 12, 60)
    assert {(one.outcome, one.attempt) for one in rig.told()} == {("delivered", 1)}


async def test_a_probe_that_is_refused_is_not_given_up_on_its_last_attempt() -> None:
    """With no rung left, only what was out before the opening is dead; who probes waits on."""
    connector = Unwell(Throttled(reason="slow down"))
    rig = Rig(connector, in_flight=8, breaker=LIMITS, tiers=())
    rig.kafka.write(*(record(delivery(f"e-{n}")) for n in range(40)))
    async with rig.running():
        await eventually(lambda: "open" in states(rig), 60)
        dead, asked = len(rig.kafka.read(DEAD)), len(connector.sent)
        await eventually(lambda: len(connector.sent) > asked + 2, 60)
        assert len(rig.kafka.read(DEAD)) == dead <= 16
        connector.answer = None
        await eventually(lambda: rig.committed() == 40, 60)
    assert len(rig.kafka.read(DEAD)) == dead


async def test_what_may_have_gone_out_is_written_down_even_as_a_probe() -> None:
    """An uncertain SMS ends as before: waiting at the gate must not send it twice."""
    connector = Unwell(Uncertain(reason="hung up"))
    rig = Rig(connector, channel="sms", in_flight=4, breaker=LIMITS)
    rig.kafka.write(*(record(delivery(f"e-{n}", channel="sms")) for n in range(8)))
    async with rig.running():
        await eventually(lambda: rig.committed() == 8, 60)
    assert len(connector.sent) == 8
    assert {(one.outcome, one.state) for one in rig.told()} == {("uncertain", "dead")}


async def test_an_operator_lets_everything_through() -> None:
    """Ordered closed, the breaker stays closed whatever the provider answers."""
    rig = Rig(Unwell(DOWN), in_flight=8, breaker=LIMITS)
    rig.order = "close"
    rig.kafka.write(*(record(delivery(f"e-{n}")) for n in range(40)))
    async with rig.running():
        await eventually(lambda: rig.committed() == 40, 60)
    assert {one.outcome for one in rig.told()} == {"transient"}
    assert states(rig) == ["closed"]
