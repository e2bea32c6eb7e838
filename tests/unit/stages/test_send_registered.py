"""An address that was registered again after the provider knew it to be dead."""

from datetime import datetime, timedelta

import pytest

from connectors.contract import InvalidAddress
from tests.support.make import NOW, profile
from tests.support.sending import MemoryProfiles, Rig, ScriptedConnector, delivery, eventually, record


@pytest.mark.parametrize(
    ("since", "state"),
    [
        (NOW - timedelta(days=1), "permanent"),
        (NOW, "permanent"),
        (NOW + timedelta(seconds=1), "invalid_address"),
    ],
)
async def test_a_token_that_was_registered_since_is_kept(since: datetime, state: str) -> None:
    """A fresh first attempt knows no registration: a 410 that is older than the profile's kills no address."""
    answer = InvalidAddress(reason="APNs answered 410", code="Unregistered", since=since)
    rig = Rig(ScriptedConnector(answer), profiles=MemoryProfiles(profile()))
    rig.kafka.write(record(delivery()))
    async with rig.running():
        await eventually(lambda: rig.committed() == 1)
    assert [(told.outcome, told.state) for told in rig.told()] == [(state, "dead")]
    assert rig.profiles.queries == [1]
