"""The whole pipeline under faults, in short; the long form is `python -m tests.faults all`."""

from pathlib import Path

import pytest

from tests.faults.whole.run import run
from tests.faults.whole.schedule import KINDS, plan, short, targets

SEED = 4


@pytest.mark.faults
@pytest.mark.integration
def test_whatever_breaks_all_that_was_accepted_arrives(home: Path) -> None:
    """Brokers, stages and the database killed, a provider that lies, poison: nothing is lost, all is explained."""
    faults = short(SEED)
    report = run(faults, seed=SEED, rate=60, home=home, after=1)
    assert report.failure is None
    assert report.faults == list(faults)
    figures = report.figures()
    wrong = ("lost", "unexplained_repeats", "decided_twice", "backlog")
    assert {name: figures[name] for name in wrong} == dict.fromkeys(wrong, 0)
    assert report.right
    assert len(report.books.accepted) > 200
    assert report.books.poison


def test_five_minutes_have_thirty_faults_of_every_kind() -> None:
    """A run of five minutes injects at least 30 faults, of every kind there is, whatever the seed."""
    for seed in range(20):
        faults = plan(280, seed)
        assert len(faults) >= 30
        assert {fault.kind for fault in faults} == set(KINDS)
        assert [fault.at for fault in faults] == sorted(fault.at for fault in faults)
        assert faults[-1].at < 280
        assert all(fault.target in targets(fault.kind) for fault in faults)
        assert plan(280, seed) == faults
