"""SMS by Vonage with Twilio standing by, both real protocols: an outage of either is nobody's loss."""

from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from connectors.sandbox.faults import Fault
from pipeline.model.breaker import Limits
from pipeline.model.ladder import TIERS
from pipeline.model.topics import DEAD, retry
from pipeline.stages.send.ways import Provider
from tests.contract.rigs import PATIENCE, Bench, bench
from tests.contract.rigs_b import TWILIO, VONAGE
from tests.support.sending import OneTemplate, Rig, ScriptedConnector, delivery, eventually, record

LIMITS = Limits(least=4, first_wait=0.2, longest_wait=0.4, ramp=0.5)


@dataclass
class Traffic:
    """A sender of SMS by both, and what was given to it."""

    vonage: Bench
    twilio: Bench
    count: int = 0

    def __post_init__(self) -> None:
        first, stand_by = self.vonage.connector, self.twilio.connector
        self.rig = Rig(
            ScriptedConnector(),
            providers=(Provider(connector=first), Provider(connector=stand_by, weight=0)),
            channel="sms",
            in_flight=8,
            breaker=LIMITS,
            templates=OneTemplate(text="{{ flight }} is late"),
        )

    async def more(self, some: int) -> None:
        """Give it so many deliveries, and wait until all are settled."""
        for n in range(self.count, self.count + some):
            self.rig.kafka.write(record(delivery(f"e-{n}", "sms", address=f"+1917555{n:04}")))
        self.count += some
        await eventually(lambda: self.rig.committed() == self.count, 60)

    async def until_the_first_has_all(self) -> None:
        """Go on until the first provider gets everything again."""
        for _ in range(1_000):
            before = len(taken(self.vonage))
            await self.more(10)
            if len(taken(self.vonage)) == before + 10:
                return
        raise AssertionError("the first provider never got everything back")


def taken(by: Bench) -> list[str]:
    """The deliveries that a provider has taken."""
    return [row.delivery_id for row in by.desk.recorder.rows() if row.accepted]


async def test_vonage_down_all_goes_by_twilio_and_back(certs: Path) -> None:
    """Out of credit and then refusing everything, Vonage costs no delivery and doubles none; mended, it has all."""
    async with bench(VONAGE, certs, limit=PATIENCE) as vonage, bench(TWILIO, certs, limit=PATIENCE) as twilio:
        traffic = Traffic(vonage, twilio)
        kafka = traffic.rig.kafka
        async with traffic.rig.running():
            await traffic.more(40)
            assert len(taken(vonage)) == 40
            vonage.fault(Fault(kind="status", status=200, reason="9 Partner quota exceeded"))
            await traffic.more(100)
            assert len(taken(twilio)) == 100
            vonage.desk.script.clear()
            vonage.fault(Fault(kind="status", status=503))
            await traffic.more(100)
            vonage.desk.script.clear()
            await traffic.until_the_first_has_all()
        waiting = sum(len(kafka.read(retry(tier.name))) for tier in TIERS)
        assert (
            waiting <= 60
        )  # refused before the breaker opened, against 40 good answers: they climb the ladder
        assert kafka.read(DEAD) == []
        sent = Counter(taken(vonage) + taken(twilio))
    assert set(sent.values()) == {1}
    assert len(sent) == traffic.count - waiting
