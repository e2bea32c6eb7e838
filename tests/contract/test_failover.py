"""SMS by Vonage with Twilio standing by, both real protocols: an outage of either is nobody's loss."""

from collections import Counter
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


def taken(by: Bench) -> list[str]:
    """The deliveries that a provider has taken."""
    return [row.delivery_id for row in by.desk.recorder.rows() if row.accepted]


async def test_vonage_down_all_goes_by_twilio_and_back(certs: Path) -> None:
    """Out of credit and then refusing everything, Vonage costs no delivery and doubles none; mended, it has all."""
    async with bench(VONAGE, certs, limit=PATIENCE) as vonage, bench(TWILIO, certs, limit=PATIENCE) as twilio:
        rig = Rig(
            ScriptedConnector(),
            providers=(
                Provider(connector=vonage.connector),
                Provider(connector=twilio.connector, weight=0),
            ),
            channel="sms",
            in_flight=8,
            breaker=LIMITS,
            templates=OneTemplate(text="{{ flight }} is late"),
        )
        count = 0

        async def more(some: int) -> None:
            nonlocal count
            addressed = (
                delivery(f"e-{n}", "sms", address=f"+1917555{n:04}") for n in range(count, count + some)
            )
            rig.kafka.write(*(record(one) for one in addressed))
            count += some
            await eventually(lambda: rig.committed() == count, 60)

        async with rig.running():
            await more(40)
            assert len(taken(vonage)) == 40
            vonage.fault(Fault(kind="status", status=200, reason="9 Partner quota exceeded"))
            await more(100)
            assert len(taken(twilio)) == 100
            vonage.desk.script.clear()
            vonage.fault(Fault(kind="status", status=503))
            await more(100)
            vonage.desk.script.clear()
            for _ in range(1_000):
                before = len(taken(vonage))
                await more(10)
                if len(taken(vonage)) == before + 10:
                    break
    waiting = sum(len(rig.kafka.read(topic)) for topic in (retry(tier.name) for tier in TIERS))
    assert waiting <= 60  # refused before the breaker opened, against 40 good answers: they climb the ladder
    assert rig.kafka.read(DEAD) == []
    sent = Counter(taken(vonage) + taken(twilio))
    assert set(sent.values()) == {1}
    assert len(sent) == count - waiting
