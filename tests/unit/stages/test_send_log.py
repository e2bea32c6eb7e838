"""What a sender logs of the deliveries that die."""

from structlog.testing import capture_logs

from connectors.contract import InvalidAddress
from tests.support.make import profile
from tests.support.sending import MemoryProfiles, Rig, ScriptedConnector, delivery, eventually, record


async def test_a_reason_is_logged_once_a_batch() -> None:
    """With how many died of it: a list of dead addresses fills no disk, and none of them is in it."""
    rig = Rig(ScriptedConnector(*[InvalidAddress(reason="unregistered", code="410")] * 20))
    rig.profiles = MemoryProfiles(profile())
    rig.kafka.write(*(record(delivery(f"e-{n}")) for n in range(20)))
    with capture_logs() as lines:
        async with rig.running():
            await eventually(lambda: rig.committed() == 20)
    dead = [line for line in lines if line["event"] == "delivery.dead"]
    assert sum(line["count"] for line in dead) == 20
    assert len(dead) <= sum(line["event"] == "batch.committed" for line in lines)
    assert {(line["disposition"], line["code"]) for line in dead} == {("invalid_address", "410")}
    assert "at-decision" not in str(lines)
