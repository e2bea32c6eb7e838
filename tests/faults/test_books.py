"""The comparison of a fault run's books: every kind of wrong that it must be able to see."""

from collections.abc import Callable
from dataclasses import replace

import pytest

from tests.faults.books import Books, Decided, Delivered, Published

TOPIC = "notification.events.normal"


def published(event_id: str, offset: int, *channels: str) -> Published:
    """A record of partition 0."""
    position = (TOPIC, 0, offset)
    return Published(event_id=event_id, channels=frozenset(channels), position=position, at=float(offset))


def decided(event_id: str, offset: int, *deliveries: str, duplicate: bool = False) -> Decided:
    """Its decision."""
    position = (TOPIC, 0, offset)
    return Decided(event_id=event_id, duplicate=duplicate, position=position, deliveries=deliveries)


def delivered(event_id: str, channel: str) -> Delivered:
    """What a sender is given."""
    return Delivered(delivery_id=f"{event_id}/{channel}", event_id=event_id, channel=channel)


# a goes to two channels, b to none because its user has no address, and a is published again.
RIGHT = Books(
    published=[published("a", 0, "sms", "email"), published("b", 1), published("a", 2, "sms", "email")],
    decided=[decided("a", 0, "a/sms", "a/email"), decided("b", 1), decided("a", 2, duplicate=True)],
    delivered=[delivered("a", "sms"), delivered("a", "email")],
)


def figures(books: Books) -> tuple[int, int, int, int]:
    """What the command counts: lost, decided twice, repeats, double."""
    return books.lost, books.decided_twice, books.repeats, books.double


def test_what_is_right_counts_nothing() -> None:
    """One decision a record, one first decision an id, each planned delivery once: all is zero."""
    assert figures(RIGHT) == (0, 0, 0, 0)
    assert RIGHT.lost_at() == RIGHT.twice_at() == []


def without_decision(books: Books) -> Books:
    """The repeat is never decided."""
    return replace(books, decided=books.decided[:2])


def with_another_event(books: Books) -> Books:
    """Where `b` was acknowledged lies the repeat of `a` now: the log has lost it."""
    return replace(books, decided=[books.decided[0], decided("a", 1, duplicate=True), books.decided[2]])


def without_first(books: Books) -> Books:
    """Both records of `a` are taken for duplicates: nobody ever hears of it."""
    wrong = [replace(one, duplicate=True, deliveries=()) for one in books.decided]
    return replace(books, decided=[wrong[0], books.decided[1], wrong[2]], delivered=[])


def without_delivery(books: Books) -> Books:
    """A planned delivery is not there."""
    return replace(books, delivered=books.delivered[:1])


def with_two_decisions(books: Books) -> Books:
    """The record of `b` is decided again."""
    return replace(books, decided=[*books.decided, books.decided[1]])


def with_two_firsts(books: Books) -> Books:
    """The repeat of `a` passes for news: decided twice, and delivered twice."""
    again = decided("a", 2, "a/sms", "a/email")
    return replace(books, decided=[*books.decided[:2], again], delivered=[*books.delivered, *books.delivered])


def with_invented_decision(books: Books) -> Books:
    """A decision about a record that nobody has published."""
    return replace(books, decided=[*books.decided, decided("c", 9)])


def with_other_id(books: Books) -> Books:
    """The same recipient under another delivery id."""
    return replace(
        books, delivered=[*books.delivered, Delivered(delivery_id="x", event_id="a", channel="sms")]
    )


def with_unwanted_channel(books: Books) -> Books:
    """Planned and delivered where the user has no address."""
    plan = decided("b", 1, "b/sms")
    return replace(
        books,
        decided=[books.decided[0], plan, books.decided[2]],
        delivered=[*books.delivered, delivered("b", "sms")],
    )


@pytest.mark.parametrize(
    ("planted", "counted", "at"),
    [
        (without_decision, (1, 0, 0, 0), ([2.0], [])),
        (with_another_event, (2, 0, 0, 0), ([1.0, 1.0], [])),  # the record and the id
        (without_first, (3, 0, 0, 0), ([0.0, 0.0, 0.0], [])),  # the id and both its deliveries
        (without_delivery, (1, 0, 0, 0), ([0.0], [])),
        (with_two_decisions, (0, 2, 0, 0), ([], [1.0, 1.0])),  # the record, and the id's first decision
        (with_two_firsts, (0, 1, 2, 2), ([], [2.0])),
        (with_invented_decision, (0, 1, 0, 0), ([], [])),
        (with_other_id, (0, 0, 0, 2), ([], [])),  # once too often, and not planned
        (with_unwanted_channel, (0, 0, 0, 1), ([], [])),
    ],
)
def test_what_is_planted_is_found(
    planted: Callable[[Books], Books],
    counted: tuple[int, int, int, int],
    at: tuple[list[float], list[float]],
) -> None:
    """A loss, a double decision and a double delivery each raise their figure, and say when it was published."""
    books = planted(RIGHT)
    assert figures(books) == counted
    assert (books.lost_at(), books.twice_at()) == at
