"""The comparison of a whole run's books: what it must see, and what it may excuse."""

from collections.abc import Callable
from dataclasses import replace

import pytest

from tests.faults.whole.books import Accepted, Attempt, Books, Decided, Taken, Waiting

TOPIC = "notification.events.normal"
KILL = 1_000.0  # seconds: when the sender of SMS died


def taken(id: str, at: float, *, told: bool = True) -> Taken:
    """An SMS that the provider took."""
    return Taken(delivery_id=id, channel="sms", at=at, told=told)


def decided(id: str, offset: int, *deliveries: str) -> Decided:
    """A decision of partition 0 that plans these SMS."""
    return Decided(
        event_id=id,
        verdict="deliver",
        place=(TOPIC, 0, offset),
        deliveries=tuple((one, "sms") for one in deliveries),
    )


# a and b arrive; c is decided and its SMS waits; d waits to be decided.
RIGHT = Books(
    accepted=[Accepted(event_id=id, channels=frozenset({"sms"})) for id in "abcd"],
    decided=[decided("a", 0, "a/sms"), decided("b", 1, "b/sms"), decided("c", 2, "c/sms")],
    outcomes=[Attempt(delivery_id=id, result="delivered", state="delivered") for id in ("a/sms", "b/sms")],
    received=[taken("a/sms", KILL - 500), taken("b/sms", KILL - 2)],
    waiting=Waiting(events=frozenset("d"), deliveries=frozenset({"c/sms"})),
    poison=frozenset({b"poison"}),
    kept=frozenset({b"poison"}),
    kills={"sms": [KILL]},
)


def again(at: float, id: str = "b/sms", *, written: bool = True) -> Callable[[Books], Books]:
    """The provider takes an SMS once more; unless `written`, only one of its answers is on record."""
    more = [Attempt(delivery_id=id, result="delivered", state="delivered")] if written else []
    return lambda books: replace(
        books, received=[*books.received, taken(id, at)], outcomes=[*books.outcomes, *more]
    )


def test_what_is_right_counts_nothing() -> None:
    """Nothing is lost, decided twice, invented or sent again; what waits is a backlog."""
    assert (RIGHT.lost, len(RIGHT.decided_again), len(RIGHT.invented), RIGHT.repeats.total()) == (0, 0, 0, 0)
    assert RIGHT.backlog == 2


@pytest.mark.parametrize(
    "planted",
    [
        lambda books: replace(books, waiting=replace(books.waiting, events=frozenset())),
        lambda books: replace(books, waiting=replace(books.waiting, deliveries=frozenset())),
        lambda books: replace(books, decided=[decided("a", 0), *books.decided[1:]]),
        lambda books: replace(books, received=books.received[1:]),
        lambda books: replace(books, kept=frozenset()),
    ],
    ids=["an undecided event", "a delivery without an end", "an unplanned channel", "a claim", "poison"],
)
def test_each_loss_is_one(planted: Callable[[Books], Books]) -> None:
    """Whatever vanishes between two books is counted, once."""
    assert planted(RIGHT).lost == 1


def test_two_decisions_are_seen() -> None:
    """Of one record, and of one id by two records."""
    assert replace(RIGHT, decided=[*RIGHT.decided, RIGHT.decided[0]]).decided_again == {f"{TOPIC}/0/0", "a"}
    assert replace(RIGHT, decided=[*RIGHT.decided, decided("a", 9, "a/sms")]).decided_again == {"a"}


@pytest.mark.parametrize(
    ("planted", "reason"),
    [
        (again(KILL + 30), "in flight at a kill"),
        (again(KILL - 0.5), "in flight at a kill"),  # written down after the kill
        (again(KILL - 30), ""),  # before anybody died
        (again(KILL + 30, "a/sms"), ""),  # long committed when its sender died
        (again(KILL + 300), "in flight at a kill"),  # nobody else was served meanwhile
        (again(KILL - 30, written=False), ""),
    ],
)
def test_a_repeat_needs_a_kill_around_it(planted: Callable[[Books], Books], reason: str) -> None:
    """What was in flight may come again once; nothing else may."""
    assert planted(RIGHT).repeats == {reason: 1}


def test_a_successor_that_comes_late_still_explains() -> None:
    """On a busy machine it may take minutes to start: the time counts from its first message."""
    late = replace(RIGHT, received=[*RIGHT.received, taken("x", KILL + 200)])
    early = replace(RIGHT, received=[*RIGHT.received, taken("x", KILL + 20)])
    assert again(KILL + 230)(late).repeats == {"in flight at a kill": 1}
    assert again(KILL + 230)(early).repeats == {"": 1}


def test_what_has_no_record_may_come_as_late_as_its_lane() -> None:
    """Behind a backlog it is minutes; its answer was never written down, so its sender died of the kill."""
    early = replace(RIGHT, received=[*RIGHT.received, taken("x", KILL + 20)])
    assert again(KILL + 900, written=False)(early).repeats == {"in flight at a kill": 1}


QUEUE = "notification.deliver.sms.normal"


def outcome(at: float, offset: int, id: str = "b/sms", result: str = "delivered") -> Attempt:
    """What came of a record of partition 0."""
    return Attempt(delivery_id=id, result=result, state=result, place=(QUEUE, 0, offset), at=at)


def test_what_was_written_and_not_committed_comes_again_with_its_partition() -> None:
    """However late that has its turn; not when the partition was read on behind it meanwhile."""
    others = [taken("x", KILL + 20), taken("b/sms", KILL + 900)]  # another partition was served at once
    late = replace(
        RIGHT,
        received=[*RIGHT.received, *others],
        outcomes=[outcome(KILL - 2, 7), outcome(KILL + 900, 7), *RIGHT.outcomes[:1]],
    )
    assert late.repeats == {"in flight at a kill": 1}
    beside = replace(late, outcomes=[*late.outcomes, outcome(KILL + 300, 400, "x")])
    assert beside.repeats == {"in flight at a kill": 1}
    behind = replace(late, outcomes=[*late.outcomes, outcome(KILL + 300, 4_000, "x")])
    assert behind.repeats == {"": 1}
    no_kill = replace(late, kills={"sms": [KILL + 300]})
    assert no_kill.repeats == {"": 1}
    thrice = [*late.outcomes, outcome(KILL + 950, 9)]
    twice = replace(late, received=[*late.received, taken("b/sms", KILL + 950)], outcomes=thrice)
    assert twice.repeats == {"in flight at a kill": 1, "": 1}


@pytest.mark.parametrize("failed", [True, False], ids=["its outcome as well", "only the retry"])
def test_a_retry_beside_its_own_record_is_explained_by_the_kill_between_both(*, failed: bool) -> None:
    """The attempt had failed, its retry was written, its record was not committed: both go out."""
    both = [outcome(KILL + 200, 7), outcome(KILL + 200, 30)]
    written = [outcome(KILL - 1, 7, result="transient")] if failed else []
    books = replace(
        RIGHT,
        received=[RIGHT.received[0], taken("x", KILL + 20), *(taken("b/sms", KILL + n) for n in (199, 200))],
        outcomes=[*written, *both, *RIGHT.outcomes[:1]],
    )
    assert books.repeats == {"in flight at a kill": 1}
    assert replace(books, kills={"sms": [KILL + 300]}).repeats == {"": 1}
    behind = replace(books, outcomes=[*books.outcomes, outcome(KILL + 100, 4_000, "x")])
    assert behind.repeats == {"": 1}


def test_a_retry_of_an_attempt_that_had_failed_is_no_reason() -> None:
    """Each record was read once: nobody may have sent it twice."""
    books = replace(
        RIGHT,
        received=[RIGHT.received[0], taken("x", KILL + 20), *(taken("b/sms", KILL + n) for n in (199, 200))],
        outcomes=[outcome(KILL + 199, 7, result="transient"), outcome(KILL + 200, 30), *RIGHT.outcomes[:1]],
    )
    assert books.repeats == {"": 1}


def test_a_release_that_is_held_again_is_no_second_decision() -> None:
    """A clock that is ahead releases early; two holds of the event itself are seen."""
    first = replace(decided("b", 1), verdict="held")
    early = replace(first, place=("notification.released", 0, 0))
    assert replace(RIGHT, decided=[*RIGHT.decided, first, early]).decided_again == {f"{TOPIC}/0/1"}
    twice = replace(first, place=(TOPIC, 0, 9))
    assert replace(RIGHT, decided=[*RIGHT.decided, first, early, twice]).decided_again == {
        f"{TOPIC}/0/1",
        "b",
    }


def test_a_missing_answer_explains() -> None:
    """Who was told that it was not taken, or nothing at all, may ask again."""
    lied = replace(RIGHT, received=[taken("a/sms", 1, told=False), *RIGHT.received[1:], taken("a/sms", 2)])
    silent = replace(
        again(KILL - 400, "a/sms")(RIGHT),
        outcomes=[*RIGHT.outcomes, Attempt(delivery_id="a/sms", result="uncertain", state="in_flight")],
    )
    assert lied.repeats == {"told no": 1}
    assert silent.repeats == {"uncertain": 1}
