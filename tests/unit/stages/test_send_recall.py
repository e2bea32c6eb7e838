"""A recall is honoured until the moment of the request, at the first attempt and at every later one."""

from datetime import timedelta
from typing import Any

import pytest

from connectors.contract import Transient
from pipeline.model.ladder import TIERS
from pipeline.model.recall import Recall, Recalls
from pipeline.model.topics import retry
from pipeline.stages.send.decide import recalled
from tests.support.make import NOW, event, profile
from tests.support.sending import (
    WIRE,
    Delivery,
    MemoryProfiles,
    Rig,
    ScriptedConnector,
    delivery,
    eventually,
    record,
)

SECOND = timedelta(seconds=1)


def order(**changes: Any) -> Recall:
    """An order by event id, with changes."""
    values: dict[str, Any] = {"recall_id": "r-1", "tenant": "acme", "at": NOW, "event_id": "e-1"}
    return Recall(**{**values, **changes})


def by(**changes: Any) -> Recall:
    """An order by something else than the event id."""
    return order(event_id=None, **changes)


@pytest.mark.parametrize(
    ("given", "stops"),
    [
        (order(), True),
        (order(event_id="e-2"), False),
        (order(tenant="other"), False),
        (order(at=NOW - SECOND), False),  # created after the order
        (by(collapse_key="gate"), True),
        (by(collapse_key="other"), False),
        (by(type="flight.cancelled"), True),
        (by(type="offer.weekend"), False),
        (by(type="flight.cancelled", template_version=3), True),
        (by(type="flight.cancelled", template_version=2), False),
    ],
)
def test_what_an_order_means(given: Recall, stops: bool) -> None:
    """One event, a collapse key, a type or a version of its words; of this tenant, created until then."""
    found = recalled(delivery(collapse_key="gate"), event(), Recalls([given]))
    assert (found is not None) == stops
    if found is not None:
        assert (found.result, found.state, found.climb, found.disposition) == (
            "recalled",
            "recalled",
            None,
            None,
        )
        assert found.reason == f"recall r-1 of {NOW.isoformat()}"


async def test_a_recalled_delivery_is_not_sent() -> None:
    """No request, one outcome that ends it; its neighbour goes out."""
    rig = Rig(ScriptedConnector(), recalls=Recalls([order()]))
    rig.kafka.write(record(delivery("e-1")), record(delivery("e-2")))
    async with rig.running():
        await eventually(lambda: rig.committed() == 2)
    assert [message.event_id for message in rig.connector.sent] == ["e-2"]
    states = {told.event_id: (told.outcome, told.state, told.provider) for told in rig.told()}
    assert states["e-1"] == ("recalled", "recalled", "")


async def test_a_recall_between_two_attempts_stops_the_second() -> None:
    """The first attempt failed; what the retry stage brings back is stopped."""
    rig = Rig(ScriptedConnector(Transient(reason="busy")), profiles=MemoryProfiles(profile()))
    rig.kafka.write(record(delivery("e-1")))
    async with rig.running():
        await eventually(lambda: rig.committed() == 1)
        (waiting,) = rig.kafka.read(retry(TIERS[0].name))
        rig.recalls = Recalls([order()])
        rig.kafka.write(record(WIRE.decode(Delivery, waiting.value)))
        await eventually(lambda: rig.committed() == 2)
    assert len(rig.connector.sent) == 1
    assert [(told.attempt, told.state) for told in rig.told()] == [(1, "in_flight"), (2, "recalled")]
