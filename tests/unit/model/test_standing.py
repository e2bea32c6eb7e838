"""Where a delivery stands: late and repeated outcomes change nothing, whatever their order."""

from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.model.outcome import FINAL, Outcome
from pipeline.model.standing import MOVES, Standing, order, precedence
from tests.support.log import outcome, outcomes
from tests.support.make import NOW


@pytest.mark.parametrize("before", MOVES)
@pytest.mark.parametrize("after", MOVES)
def test_news_of_the_same_attempt_counts_exactly_where_moves_leads(before: Standing, after: Standing) -> None:
    """`precedence`, by which the database compares, says the same as the table."""
    if "planned" in (before, after):
        assert (after in MOVES[before]) == (before == "planned" and after != "planned")
        return
    first, second = outcome(state=before), outcome(state=after)
    assert (precedence(second) > precedence(first)) == (after in MOVES[before])


def test_every_outcome_counts_more_than_a_plan() -> None:
    """A planned delivery has precedence 0, and any outcome moves it."""
    assert all(precedence(outcome(state=state, attempt=1)) > 0 for state in MOVES if state != "planned")


def test_no_final_state_goes_back_in_flight_within_an_attempt() -> None:
    """What is final stays so, unless a later attempt says otherwise."""
    assert all("in_flight" not in MOVES[state] for state in FINAL)


def test_a_replay_brings_a_dead_delivery_back_in_flight() -> None:
    """A later attempt counts more than the death of an earlier one."""
    assert order(outcome(state="in_flight", attempt=7)) > order(outcome(state="dead", attempt=6))


def test_delivered_is_for_ever() -> None:
    """The phone rang: no later attempt of a copy takes it back."""
    late = outcome(state="dead", attempt=5, at=NOW + timedelta(days=1))
    assert order(outcome(state="delivered", attempt=1)) > order(late)


@given(st.lists(outcomes(), min_size=2, max_size=2, unique_by=order))
def test_two_outcomes_are_never_of_equal_weight(pair: list[Outcome]) -> None:
    """The order is total, so all readers agree which one counts."""
    first, second = pair
    assert (order(first) < order(second)) != (order(second) < order(first))
