"""The router under faults, in short; the long form is `python -m tests.faults router`."""

from pathlib import Path

import pytest

from tests.faults.router import run
from tests.faults.schedule import short

pytestmark = [pytest.mark.faults, pytest.mark.integration]
SEED = 4


def test_whatever_happens_each_event_is_decided_once(home: Path) -> None:
    """Killed around its commit, replaced while it sleeps, rebalanced, without broker and without database."""
    faults = short(SEED)
    report = run(faults, seed=SEED, rate=100, home=home)
    assert report.failure is None
    assert [result.fault for result in report.results] == list(faults)
    figures = report.figures()
    assert figures["events"] > 1_000
    wrong = ("lost", "decided_twice", "repeats", "unexplained_repeats", "double")
    assert {name: figures[name] for name in wrong} == dict.fromkeys(wrong, 0)
    assert report.witness_agrees
