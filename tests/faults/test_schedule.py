"""The order of a fault run."""

from itertools import pairwise
from typing import get_args

from hypothesis import given
from hypothesis import strategies as st

from tests.faults.schedule import STEPS, Fault, Kind, plan, short

seeds = st.integers(0, 2**32)


@given(seed=seeds, faults=st.integers(0, 200))
def test_a_plan_holds_what_is_asked(seed: int, faults: int) -> None:
    """At least so many faults, the same for the same seed, and whoever joins leaves next."""
    found = plan(faults, seed)
    assert len(found) >= faults
    assert found == plan(faults, seed)
    follows = [
        after.kind for before, after in pairwise((*found, Fault(kind="kill"))) if before.kind == "joins"
    ]
    assert follows == ["leaves"] * sum(fault.kind == "leaves" for fault in found)


@given(seed=seeds)
def test_a_long_run_leaves_nothing_out(seed: int) -> None:
    """64 faults have every kind and a kill at every step; 150 have fifty rebalances under load."""
    found = plan(64, seed)
    assert {fault.kind for fault in found} == set(get_args(Kind))
    assert {fault.step for fault in found if fault.kind == "kill"} == set(STEPS)
    assert sum(fault.kind in {"joins", "leaves"} for fault in plan(150, seed)) >= 50


@given(seed=seeds)
def test_the_short_run_has_what_matters_most(seed: int) -> None:
    """Eight faults: a kill on either side of the commit, a zombie, a rebalance, a broker, a database."""
    found = short(seed)
    assert len(found) == 8
    assert {"kill", "replaced", "joins", "leaves", "broker killed", "postgres stopped"} == {
        fault.kind for fault in found
    }
    assert {"produced", "committing", "committed"} == {f.step for f in found if f.kind == "kill"}
