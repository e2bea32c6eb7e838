"""The ledger: it balances when nothing is missing, and names what is."""

import json
from collections.abc import Mapping

from hypothesis import given
from hypothesis import strategies as st

from pipeline.model.ledger import (
    Books,
    Decided,
    Delivered,
    Hole,
    Ledger,
    MissingDelivery,
    Parked,
    Position,
    balance,
)
from pipeline.model.topics import DECISIONS

EVENTS = "notification.events.normal"
ENDS: Mapping[Position, int] = {(EVENTS, 0): 10, (EVENTS, 1): 5}

BOOKS = Books(
    waiting=2,
    parked=(Parked(outbox_id="o-1", event_id="e-9", error="topic"),),
    heads={(EVENTS, 0): 10, (EVENTS, 1): 3},
    open=1,
    decided=(
        Decided(verdict="deliver", reason="", events=8),
        Decided(verdict="suppressed", reason="opted_out", events=2),
        Decided(verdict="duplicate", reason="duplicate", events=2),
        Decided(verdict="held", reason="", events=1),
    ),
    delivered=(
        Delivered(channel="sms", state="delivered", outcome="delivered", deliveries=6),
        Delivered(channel="sms", state="dead", outcome="invalid_address", deliveries=2),
        Delivered(channel="apns", state="dead", outcome="invalid_address", deliveries=1),
        Delivered(channel="apns", state="planned", outcome="", deliveries=1),
        Delivered(channel="apns", state="suppressed", outcome="suppressed", deliveries=3),
    ),
)


def test_accepted_is_final_and_in_flight() -> None:
    """Outbox, undecided, held and open events are in flight; all others are final."""
    ledger = balance(BOOKS, ENDS)
    assert (ledger.accepted, ledger.final, ledger.in_flight) == (18, 11, 7)
    assert ledger.balanced
    assert ledger.missing == ()


def test_deliveries_are_counted_by_channel_and_by_cause() -> None:
    """Delivered by channel, dead by the last outcome, an opt-out after the decision as its own reason."""
    ledger = balance(BOOKS, ENDS)
    assert ledger.delivered == {"sms": 6}
    assert ledger.dead == {"invalid_address": 3}
    assert ledger.suppressed == {"opted_out": 2, "opted_out_later": 3}
    assert (ledger.deliveries, ledger.deliveries_in_flight, ledger.duplicates) == (13, 1, 2)


def test_a_hole_is_named_and_unbalances() -> None:
    """An event that later ones overtook is missing, by topic, partition and offset."""
    decided = (Decided(verdict="deliver", reason="", events=8),)
    hole = Hole(topic=EVENTS, partition=0, first=3, last=4)
    ledger = balance(Books(heads={(EVENTS, 0): 10}, decided=decided, holes=(hole,)), {(EVENTS, 0): 10})
    assert not ledger.balanced
    assert ledger.missing == ("event notification.events.normal[0] offsets 3 to 4: no decision",)
    assert ledger.accepted - ledger.final - ledger.in_flight == 2


def test_more_holes_than_are_named_unbalance_all_the_same() -> None:
    """The balance does not lean on the list, which ends somewhere."""
    decided = (Decided(verdict="deliver", reason="", events=8),)
    assert not balance(Books(heads={(EVENTS, 0): 10}, decided=decided), {(EVENTS, 0): 10}).balanced


def test_a_planned_delivery_without_a_row_is_named() -> None:
    """Its event is neither final nor in flight."""
    books = Books(
        heads={(EVENTS, 0): 1},
        decided=(Decided(verdict="deliver", reason="", events=1),),
        incomplete=1,
        missing_deliveries=(MissingDelivery(delivery_id="d-1", event_id="e-1"),),
    )
    ledger = balance(books, {(EVENTS, 0): 1})
    assert not ledger.balanced
    assert ledger.missing == ("delivery d-1 of event e-1: no row",)


def test_an_outcome_without_a_decision_is_tolerated_only_while_decisions_are_behind() -> None:
    """An outcome may come before its decision; when all are decided, nobody decided it."""
    books = Books(heads={(EVENTS, 0): 1}, decided=(Decided(verdict="expired", reason="expired", events=1),))
    early = Books(heads=books.heads, decided=books.decided, unplanned=1)
    assert balance(early, {(EVENTS, 0): 2}).balanced
    assert not balance(early, {(EVENTS, 0): 1}).balanced


def test_a_decision_beyond_the_end_moves_the_end() -> None:
    """Kafka was asked a moment before PostgreSQL."""
    decided = (Decided(verdict="expired", reason="expired", events=4),)
    ledger = balance(Books(heads={(EVENTS, 0): 4}, decided=decided), {(EVENTS, 0): 3})
    assert (ledger.accepted, ledger.in_flight, ledger.balanced) == (4, 0, True)


def test_it_is_json() -> None:
    """Every figure and the verdict, as JSON."""
    found = json.loads(json.dumps(balance(BOOKS, ENDS).as_json()))
    assert found["balanced"] is True
    assert found["delivered"] == {"sms": 6}
    assert found["parked"][0]["event_id"] == "e-9"


@given(st.lists(st.sampled_from(["final", "open", "held", "undecided", "lost"]), max_size=30))
def test_it_balances_exactly_when_no_event_was_passed_over(events: list[str]) -> None:
    """Whatever one partition holds: a lost event before the last decided one, and only that, unbalances."""
    decided_upto = max((n + 1 for n, e in enumerate(events) if e not in ("undecided", "lost")), default=0)
    known = events[:decided_upto]
    books = Books(
        heads={(EVENTS, 0): decided_upto} if decided_upto else {},
        decided=(
            Decided(verdict="deliver", reason="", events=known.count("final") + known.count("open")),
            Decided(verdict="held", reason="", events=known.count("held")),
        ),
        open=known.count("open"),
    )
    overtaken = known.count("lost") + known.count("undecided")
    ledger = balance(books, {(EVENTS, 0): len(events)})
    assert ledger.accepted == len(events)
    assert ledger.balanced == (overtaken == 0)
    assert ledger.accepted - ledger.final - ledger.in_flight == overtaken


def young(first: int, begins: Mapping[Position, int]) -> Ledger:
    """The balance of a log whose first decision is this one, and whose topic holds ten events."""
    books = Books(
        heads={(EVENTS, 0): 10},
        firsts={(EVENTS, 0): first},
        decided=(Decided(verdict="deliver", reason="", events=10 - first),),
    )
    return balance(books, {(EVENTS, 0): 10}, begins)


def test_a_log_younger_than_its_topics_answers_for_what_it_could_read() -> None:
    """What retention took before the log began is nobody's loss; what it had left and nobody decided is."""
    assert young(4, {(EVENTS, 0): 4}).balanced
    assert young(4, {(EVENTS, 0): 7}).accepted == 6  # the log knows of more than is left
    lost = young(4, {(EVENTS, 0): 1})
    assert lost.missing == ("event notification.events.normal[0] offsets 1 to 3: no decision",)
    assert lost.accepted - lost.final == 3
    cut = young(4, {(EVENTS, 0): 1, (DECISIONS, 0): 3})  # the decisions about 1 to 3 were there once
    assert (cut.balanced, cut.accepted, cut.undecided) == (True, 6, 0)


def test_a_trimmed_partition_without_decisions_counts_what_is_left() -> None:
    """Three events are left of ten, and none of them is decided."""
    ledger = balance(Books(), {(EVENTS, 0): 10}, {(EVENTS, 0): 7, (DECISIONS, 0): 2})
    assert (ledger.accepted, ledger.undecided, ledger.balanced) == (3, 3, True)


@given(st.data())
def test_a_trimmed_topic_beside_a_fresh_log_balances(data: st.DataObject) -> None:
    """Wherever retention has cut events and decisions, what a perfect router decided leaves no hole."""
    end = data.draw(st.integers(0, 20))
    decided = data.draw(st.integers(0, end))  # the router's place
    events = data.draw(st.integers(0, decided))  # the first event that is left
    decisions = data.draw(st.integers(0, decided))  # the first event whose decision is left
    log = range(decisions, decided)
    books = Books(
        heads={(EVENTS, 0): decided} if log else {},
        firsts={(EVENTS, 0): decisions} if log else {},
        decided=(Decided(verdict="deliver", reason="", events=len(log)),),
    )
    ledger = balance(books, {(EVENTS, 0): end}, {(EVENTS, 0): events, (DECISIONS, 0): decisions})
    assert ledger.balanced, ledger
    if log:
        assert (ledger.final, ledger.undecided) == (len(log), end - decided)


@given(st.lists(st.sampled_from(["decided", "driven", "lost"]), max_size=30), st.integers(0, 5))
def test_what_was_written_again_counts_where_it_stands_now(fates: list[str], unread: int) -> None:
    """Whatever became of the others: it is accepted once, and only what is lost is missing."""
    driven, lost = fates.count("driven"), fates.count("lost")
    heads = {(EVENTS, 0): max([n + 1 for n, fate in enumerate(fates) if fate != "lost"], default=0)}
    end = len(fates) + driven + unread  # each driven one stands at the end again, undecided
    books = Books(
        heads=heads,
        firsts={(EVENTS, 0): 0},
        driven=driven,
        decided=(Decided(verdict="deliver", reason="", events=fates.count("decided")),),
    )
    found = balance(books, {(EVENTS, 0): end})
    overtaken = fates[: heads[EVENTS, 0]].count("lost")
    assert found.accepted == len(fates) + unread
    assert found.undecided == driven + unread + lost - overtaken
    assert found.accepted - found.final - found.in_flight == overtaken
