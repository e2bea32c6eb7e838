"""The senders under faults, in short; the long form is `python -m tests.faults senders`."""

from pathlib import Path

import pytest

from tests.faults.sender_schedule import short
from tests.faults.senders import run

pytestmark = [pytest.mark.faults, pytest.mark.integration]
SEED = 5


def test_whatever_happens_each_delivery_has_its_end(home: Path) -> None:
    """Killed, told to stop, rebalanced, hung up on: nothing is lost, and what rings twice was in flight."""
    faults = short(SEED)
    report = run(faults, seed=SEED, rate=120, home=home, channels=("apns",))
    assert report.failure is None
    assert [result.fault for result in report.results] == list(faults)
    assert {what: which for what, which in report.wrong.items() if which} == {}
    figures = report.figures()
    assert figures["deliveries"] > 300
    assert figures["in_flight_at_kills"] > 0
    assert figures["repeats"] <= figures["in_flight_at_kills"]
    assert figures["uncertain_repeats"] > 0
