"""Rates in the sender: a provider is never asked faster, and what waits, waits on the topic."""

import asyncio
import time

from connectors.contract import Accepted, Message, Outcome, Throttled
from pipeline.model.event import Lane
from pipeline.model.rate import Bucket
from pipeline.stages.send.places import Places
from pipeline.stages.send.step import rooms
from pipeline.stages.send.ways import Provider
from tests.support.sending import Rig, ScriptedConnector, delivery, eventually, record

RATE = 60.0


class Timed(ScriptedConnector):
    """Notes when each request came."""

    def __init__(self, *answers: Outcome) -> None:
        super().__init__(*answers)
        self.at: list[float] = []

    async def send(self, message: Message) -> Outcome:
        """One request."""
        self.at.append(time.monotonic())
        return await super().send(message)


def busiest(at: list[float], rate: float) -> float:
    """By how many requests the worst window exceeds the rate."""
    return max(
        last - first + 1 - rate * (at[last] - at[first])
        for first in range(len(at))
        for last in range(first, len(at))
    )


async def test_a_broadcast_keeps_the_rate_and_an_urgent_one_passes_it() -> None:
    """No window exceeds rate and burst; few records are held in memory; a one-time code goes before the rest."""
    connector = Timed()
    rig = Rig(connector, providers=(Provider(connector=connector, rate=RATE),), in_flight=400)
    rig.kafka.write(*(record(delivery(f"e-{n}", lane="bulk")) for n in range(150)))
    async with rig.running():
        await eventually(lambda: len(connector.sent) >= 20, 60)
        before = len(connector.sent)
        rig.kafka.write(record(delivery("code", lane="urgent")))
        await eventually(lambda: rig.committed("bulk") == 150 and rig.committed("urgent") == 1, 60)
    place = [message.event_id for message in connector.sent].index("code")
    assert place <= before + RATE  # not behind the 130
    assert busiest(connector.at, RATE) <= RATE + 1e-3
    assert rig.consumer.most < 2 * RATE  # half a second's worth waits, and what is being written
    assert {one.outcome for one in rig.told()} == {"delivered"}


async def test_one_who_asks_for_less_gets_less() -> None:
    """After a 429 requests go half as fast."""
    connector = Timed(Accepted(), Throttled(reason="slow down"))
    rig = Rig(connector, providers=(Provider(connector=connector, rate=10.0),))
    rig.kafka.write(*(record(delivery(f"e-{n}")) for n in range(18)))
    async with rig.running():
        await eventually(lambda: rig.committed() == 18, 60)
    assert (
        connector.at[-1] - connector.at[0] >= 1.2
    )  # what a full bucket leaves over takes 0.8 s at the whole rate


async def test_who_gives_up_the_wait_for_a_token_is_passed_over() -> None:
    """Cancelled in line, it costs the others nothing."""
    places, got = Places(10, Bucket(50.0, time.monotonic())), list[Lane]()

    async def come(lane: Lane) -> None:
        await places.take(lane)
        got.append(lane)
        places.leave()

    waiting = [asyncio.create_task(come(lane)) for lane in ("bulk", "bulk", "urgent", "urgent")]
    await asyncio.sleep(0)
    assert not got
    waiting[0].cancel()
    waiting[2].cancel()
    await asyncio.wait_for(asyncio.gather(*waiting, return_exceptions=True), 60)
    assert got == ["urgent", "bulk"]


def test_a_lane_without_tokens_is_not_read() -> None:
    """Its topic keeps the records; the others' rooms stay."""
    found = rooms("sms", 100, 0, {"urgent": 5, "normal": 2, "bulk": 0})
    assert found == {"notification.deliver.sms.urgent": 5, "notification.deliver.sms.normal": 2}
    assert len(rooms("sms", 100, 0, {})) == 3
