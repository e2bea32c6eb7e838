"""What becomes of a letter, and which letters are meant: by values and `now` alone."""

from collections.abc import Mapping
from dataclasses import replace
from datetime import timedelta
from typing import Any, get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.adapters.wire.ids import LockFile
from pipeline.adapters.wire.sketch import Sketcher
from pipeline.model.dead import REPLAY_COUNT, Cause, Letter
from pipeline.model.preferences import allows
from pipeline.model.replay import Fate, Pace, Range, Run, Selection, Sketch, Standing, Terms
from pipeline.model.topics import HOLDS, RELEASED
from pipeline.model.window import SOURCES
from pipeline.stages.replay.decide import claim_of, judge, judge_discard, router_place, unwanted
from pipeline.stages.replay.select import matches
from pipeline.stages.replay.stats import AGES, Matrix
from tests.support.letters import BUSY, as_read, dead, letter
from tests.support.make import CATALOGUE, NOW, profile

SKETCHER = Sketcher(LockFile())
MS = int(NOW.timestamp() * 1000)
NOTHING = Standing(delivered=False, attempt=0, claimed_by="", mine=False, discarded=False, replays=0)


def case(cause: Cause = BUSY, **changes: Any) -> tuple[Letter, Sketch]:
    """A letter and what it says."""
    found = as_read(letter(dead("acme", 1, **changes), cause))
    return found, SKETCHER.sketch(found)


def fate(
    standing: Standing | None = None, terms: Terms | None = None, recall: str = "", **changes: Any
) -> Fate:
    """What becomes of a letter with these changes."""
    cause = changes.pop("cause", BUSY)
    found, sketch = case(cause, **changes)
    return judge(found, sketch, standing, terms or Terms(), recall=recall, now=MS)[0]


UNSURE = Cause(disposition="uncertain", message="no answer")
KNOWN: Mapping[Fate, Standing] = {
    "delivered": NOTHING._replace(delivered=True),
    "replayed": NOTHING._replace(claimed_by="r-1"),
    "discarded": NOTHING._replace(claimed_by="r-1", discarded=True),
    "superseded": NOTHING._replace(attempt=7),
    "looping": NOTHING._replace(replays=3),
}


def test_a_letter_that_nothing_speaks_against_is_sent() -> None:
    """The log knows no more than that it died, and its time is not over."""
    assert fate() == "sent"
    assert fate(NOTHING._replace(attempt=6)) == "sent"
    assert fate(expires_at=NOW + timedelta(seconds=1)) == "sent"


@pytest.mark.parametrize("expected", list(KNOWN))
def test_what_is_known_of_it_stops_it(expected: Fate) -> None:
    """Each thing that PostgreSQL may know has a fate of its own."""
    assert fate(KNOWN[expected]) == expected


def test_what_nobody_can_read_says_why() -> None:
    """Whatever else is known of it."""
    found, _ = case()
    assert judge(found, "damaged", NOTHING, Terms(), recall="r", now=MS) == ("unreadable", "damaged")


def test_time_recall_and_doubt_stop_it() -> None:
    """Expired, withdrawn, or perhaps out already: the last only unless the operator takes the risk."""
    assert fate(expires_at=NOW) == "expired"
    assert fate(recall="recall r-1") == "recalled"
    assert fate(cause=UNSURE) == "uncertain"
    assert fate(cause=UNSURE, terms=Terms(uncertain=True)) == "sent"
    assert fate(expires_at=NOW, terms=Terms(edits={"expires_at": "2027-01-01T00:00Z"})) == "sent"


def test_the_header_alone_ends_a_loop() -> None:
    """Also when the claims of the runs are gone; a forged count that is no number counts as none."""
    found, sketch = case()
    for count, expected in ((b"3", "looping"), (b"2", "sent"), (b"-9", "sent"), (b"x", "sent")):
        again = found._replace(headers={**found.headers, REPLAY_COUNT: count})
        assert judge(again, sketch, None, Terms(), recall="", now=MS)[0] == expected


def test_a_run_goes_on_with_what_it_has_taken_itself() -> None:
    """After a crash its own claim, and an attempt that it has sent, do not stop it; an arrival does."""
    mine = NOTHING._replace(claimed_by="r-1", mine=True, attempt=7)
    assert fate(mine) == "sent"
    assert fate(mine._replace(delivered=True)) == "delivered"


@given(
    delivered=st.booleans(),
    attempt=st.integers(0, 9),
    claimed_by=st.sampled_from(["", "r-1"]),
    discarded=st.booleans(),
    replays=st.integers(0, 5),
    uncertain=st.booleans(),
)
def test_nothing_that_arrived_or_is_another_runs_is_ever_sent(
    delivered: bool, attempt: int, claimed_by: str, discarded: bool, replays: int, uncertain: bool
) -> None:
    """Whatever else holds: the promise that the same letters again send nothing."""
    standing = Standing(delivered, attempt, claimed_by, mine=False, discarded=discarded, replays=replays)
    found = fate(standing, Terms(uncertain=uncertain))
    assert found in get_args(Fate)
    if delivered or claimed_by or attempt > 6 or replays >= 3:
        assert found != "sent"
    else:
        assert found == "sent"


def test_a_discard_takes_what_no_run_has() -> None:
    """What another run has sent or discarded is left to it."""
    found, sketch = case()
    assert judge_discard(found, sketch, None)[0] == "discarded"
    assert judge_discard(found, "damaged", None)[0] == "discarded"
    assert judge_discard(found, sketch, KNOWN["replayed"])[0] == "replayed"
    assert judge_discard(found, sketch, KNOWN["discarded"])[0] == "replayed"
    assert judge_discard(found, sketch, NOTHING._replace(claimed_by="r-1", mine=True))[0] == "discarded"


def test_what_waits_in_a_tier_is_numbered_as_the_attempt_to_come() -> None:
    """It is taken by the attempt that failed; an attempt that was made since has overtaken it."""
    found, sketch = case()
    waiting = found._replace(topic="notification.retry.1h", headers={})
    assert claim_of(waiting, sketch, 0).attempt == sketch.attempt - 1
    for known, expected in ((5, "sent"), (6, "superseded")):
        standing = NOTHING._replace(attempt=known)
        assert judge(waiting, sketch, standing, Terms(), recall="", now=MS)[0] == expected
    assert judge_discard(waiting, sketch, NOTHING._replace(attempt=6))[0] == "superseded"
    assert judge_discard(waiting, "damaged", None)[0] == "unreadable"


def test_a_claim_is_of_the_delivery_and_its_attempt() -> None:
    """Two letters of one attempt have one claim; what is no delivery is claimed by its place."""
    found, sketch = case()
    again = found._replace(offset=9)
    assert claim_of(found, sketch, 0)[:2] == claim_of(again, sketch, 0)[:2] == (sketch.delivery_id, 6)
    for other in (None, sketch._replace(delivery_id="nul \0")):
        assert claim_of(again, other, 0)[:2] == ("notification.dead/0/9", 0)


@given(st.sampled_from([*SOURCES, HOLDS]), st.integers(0, 99), st.booleans(), st.booleans())
def test_what_the_router_has_passed_goes_to_it_once(
    topic: str, partition: int, legible: bool, taken: bool
) -> None:
    """In the partition number where it knows the id; bytes that nobody can read too, for it says so itself."""
    found, sketch = case()
    passed = found._replace(topic=topic, partition=partition, offset=7, headers={})
    said = sketch._replace(kind="hold" if topic in (HOLDS, RELEASED) else "event") if legible else "damaged"
    claim = claim_of(passed, said if isinstance(said, Sketch) else None, 0)
    assert claim[:2] == (f"{topic}/{partition}/7", 0)
    standing = NOTHING._replace(claimed_by="r-1") if taken else None
    assert router_place(passed, None) == (RELEASED if topic == HOLDS else topic, partition)
    expected = "replayed" if taken else "sent"
    if topic == HOLDS and not legible:
        expected = "unreadable"  # the hold stage has made a dead letter of it
    assert judge(passed, said, standing, Terms(over=True), recall="r", now=MS)[0] == expected


@given(
    parts=st.lists(
        st.tuples(st.sampled_from(SOURCES), st.integers(0, 2), st.integers(0, 9), st.integers(1, 5))
    ),
    place=st.tuples(st.sampled_from(SOURCES), st.integers(0, 2), st.integers(0, 15)),
)
def test_of_the_routers_topics_just_the_parts_are_meant(
    parts: list[tuple[str, int, int, int]], place: tuple[str, int, int]
) -> None:
    """Whatever else a run is about; deliveries and holds go by their names."""
    ranges = tuple(Range(topic=t, partition=p, first=o, end=o + n) for t, p, o, n in parts)
    found, sketch = case()
    topic, partition, offset = place
    passed = found._replace(topic=topic, partition=partition, offset=offset)
    chosen = Selection(named=frozenset(), parts=ranges)
    meant = any((t, p) == (topic, partition) and o <= offset < o + n for t, p, o, n in parts)
    assert matches(chosen, passed, None, dict) is meant
    assert not matches(chosen, found, sketch, dict)
    assert matches(replace(chosen, named=frozenset({sketch.delivery_id})), found, sketch, dict)


@pytest.mark.parametrize(
    ("topic", "named", "in_retry"),
    [
        ("notification.dead", None, False),
        ("notification.retry.1h", None, True),
        ("notification.retry.1h", frozenset[str](), False),
        ("notification.holds", frozenset[str](), False),
        ("notification.events.normal", frozenset[str](), False),
    ],
)
def test_only_what_waits_for_an_attempt_is_shared_with_the_retry_stage(
    topic: str, named: frozenset[str] | None, in_retry: bool
) -> None:
    """What is lost is in nobody's hands any more, also what was last seen in a tier."""
    ranges = (Range(topic=topic, partition=0, first=0, end=1),)
    chosen = Selection(named=named)
    run = Run(
        run_id="r",
        kind="replay",
        who="a",
        why="b",
        at=NOW,
        ranges=ranges,
        selection=chosen,
        pace=Pace(),
        terms=Terms(),
    )
    assert run.in_retry is in_retry


def test_users_are_asked_as_the_sender_will_ask() -> None:
    """Unknown, opted out, moved or suppressed: each has its reason."""
    _, sketch = case()
    who = profile("u-1", ["apns"], tenant="acme")
    sketch = sketch._replace(channel="apns", address_id=who.addresses[0].address_id)
    flights = CATALOGUE["flight.cancelled"].category
    wants = {("flights", "apns"): True}
    assert unwanted(sketch, None, flights) == "the user is unknown by now"
    assert unwanted(sketch, replace(who, preferences=wants), flights) == ""
    refused = replace(who, preferences={("flights", "apns"): False})
    assert unwanted(sketch, refused, flights) == allows(refused, flights, "apns").reason
    assert "no longer active" in unwanted(sketch, replace(who, preferences=wants, addresses=()), flights)
    listed = replace(who.addresses[0], suppressed="complaint")
    assert "complaint" in unwanted(sketch, replace(who, preferences=wants, addresses=(listed,)), flights)


@pytest.mark.parametrize(
    ("selection", "meant"),
    [
        (Selection(), True),
        (Selection(tenant="acme", user="u-1", type="flight.cancelled", channel="sms"), True),
        (Selection(tenant="other"), False),
        (Selection(user="u-2"), False),
        (Selection(type="account.code"), False),
        (Selection(channel="email"), False),
        (Selection(provider="vonage", disposition="exhausted"), True),
        (Selection(provider="twilio"), False),
        (Selection(disposition="permanent"), False),
        (Selection(error=BUSY.fingerprint("send")[:6]), True),
        (Selection(error="ffffffffffff"), False),
        (Selection(since=NOW, until=NOW + timedelta(seconds=1)), True),
        (Selection(since=NOW + timedelta(milliseconds=1)), False),
        (Selection(until=NOW), False),
        (Selection(headers={"__dlq.errors.stage": "send"}), True),
        (Selection(headers={"__dlq.errors.stage": "retry"}), False),
        (Selection(headers={"absent": ""}), False),
        (Selection(fields={"flight": "UA 1"}), True),
        (Selection(fields={"flight": "UA 2"}), False),
        (Selection(fields={"absent": ""}), False),
    ],
)
def test_every_condition_must_hold(selection: Selection, meant: bool) -> None:
    """Each alone, and together."""
    found, sketch = case()
    assert matches(selection, found, sketch, lambda: SKETCHER.event(sketch).data) is meant


def test_what_nobody_can_read_is_found_by_its_key() -> None:
    """Tenant and user stand in the key; type, channel and payload are unknown, so no condition on them holds."""
    found, _ = case()
    for selection, meant in (
        (Selection(tenant="acme", user="u-1"), True),
        (Selection(tenant="other"), False),
        (Selection(channel="sms"), False),
        (Selection(fields={"flight": "UA 1"}), False),
    ):
        assert matches(selection, found, None, dict) is meant


@given(st.lists(st.tuples(st.sampled_from(["busy 1", "refused"]), st.integers(0, 30 * 86_400_000))))
def test_the_matrix_counts_every_letter_once(letters: list[tuple[str, int]]) -> None:
    """By kind of failure and by age, the most frequent first."""
    matrix = Matrix(MS)
    for message, age in letters:
        found = as_read(letter(dead("acme", 1), replace(BUSY, message=message)))._replace(at=MS - age)
        matrix.add(found)
    rows = matrix.rows()
    assert sum(row.total for row in rows) == len(letters)
    assert [row.total for row in rows] == sorted((row.total for row in rows), reverse=True)
    young = sum(age < AGES[0][1] for _, age in letters)
    assert sum(row.ages[0] for row in rows) == young
