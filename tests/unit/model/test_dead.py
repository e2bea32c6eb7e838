"""What a dead letter keeps, and how it is read back."""

from datetime import timedelta
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.model.dead import (
    AWAITS_RECEIPT,
    OURS,
    PREFIX,
    REPLAY_AS_OF,
    REPLAY_COUNT,
    REPLAY_RUN,
    Cause,
    Letter,
    dead_letter,
    replayed,
)
from pipeline.model.record import Headers, Incoming, Outgoing
from pipeline.model.topics import DEAD
from tests.support.make import NOW

_names = st.sampled_from(["a", "traceparent", REPLAY_RUN, PREFIX + "topic", PREFIX + "old"])
_headers = st.lists(st.tuples(_names, st.binary(max_size=9)), max_size=6).map(tuple)


def source(value: bytes | None = b"\0\0\0\0\x07rest", headers: Headers = ()) -> Incoming:
    """A record of a channel's topic."""
    return Incoming(
        topic="notification.deliver.sms.bulk",
        partition=3,
        offset=41,
        key=b"k",
        value=value,
        headers=headers,
        at=NOW,
    )


def read(letter: Outgoing) -> Letter:
    """As a reader of the topic has it."""
    at = int(NOW.timestamp() * 1000)
    return Letter(
        DEAD, 0, 9, letter.key, letter.value or b"", at, dict(letter.headers), tuple(letter.headers)
    )


@given(value=st.none() | st.binary(max_size=20), headers=_headers)
def test_what_came_is_kept_byte_for_byte(value: bytes | None, headers: Headers) -> None:
    """Key, value and foreign headers in their order, whatever they are; only older reasons give way."""
    letter = dead_letter(
        source(value, headers), Cause(disposition="unreadable", message="no"), group="g", stage="send"
    )
    assert (letter.topic, letter.key, letter.value) == (DEAD, b"k", value)
    foreign = tuple(one for one in headers if not one[0].startswith(PREFIX))
    assert letter.headers[: len(foreign)] == foreign
    ours = [name for name, _ in letter.headers if name.startswith(PREFIX)]
    assert len(ours) == len(set(ours)) == len(letter.headers) - len(foreign)
    assert set(ours) | {REPLAY_RUN, REPLAY_COUNT, REPLAY_AS_OF, AWAITS_RECEIPT[0]} == OURS


def test_every_fact_can_be_read_back() -> None:
    """Origin, error, provider, attempts, both times and the schema's id are in the headers."""
    cause = Cause(
        disposition="exhausted",
        message="busy",
        error="X",
        attempts=6,
        provider="vonage",
        code="1",
        first_at=NOW - timedelta(hours=7),
        last_at=NOW,
    )
    found = read(dead_letter(source(), cause, group="g", stage="send"))
    assert found.origin == "notification.deliver.sms.bulk"
    assert [found.fact(name) for name in ("partition", "offset", "group", "stage", "provider.code")] == [
        "3",
        "41",
        "g",
        "send",
        "1",
    ]
    assert (found.fact("schema.id"), found.attempts, found.replays) == ("7", 6, 0)
    assert (found.failed("first"), found.failed("last")) == (NOW - timedelta(hours=7), NOW)
    assert found.place == "notification.dead/0/9"


def test_without_times_the_letters_own_counts() -> None:
    """A stage that tries once says no times; undecodable bytes have no schema id."""
    found = read(
        dead_letter(source(b"poison"), Cause(disposition="unreadable", message=""), group="g", stage="r")
    )
    assert (found.failed("first"), found.failed("last")) == (NOW, NOW)
    assert found.fact("schema.id") == ""


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("schema id 7 was never released", "schema id 81 was never released", True),  # numbers vary
        ("no user 'ann'", "no user 'bob'", True),  # quoted words vary
        ("id 0f8fad5b-d9cb-469f-a165-70867728950e", "id 7c9e6679-7425-40de-944b-e07fc1f90ae7", True),
        ("busy", "refused", False),
    ],
)
def test_failures_of_one_kind_share_a_fingerprint(one: str, other: str, same: bool) -> None:
    """Ids and numbers do not part them, words do."""
    first, second = (Cause(disposition="unreadable", message=text) for text in (one, other))
    assert (first.fingerprint("send") == second.fingerprint("send")) is same
    assert first.fingerprint("send") != first.fingerprint("retry")


@given(st.binary(max_size=30) | st.just(b"9" * 5_000))
def test_a_forged_count_stops_nobody(count: bytes) -> None:
    """Whatever a foreign writer has put there, the letter can be read, and the count is no negative number."""
    headers: Headers = ((REPLAY_COUNT, count), (PREFIX + "delivery.count", count))
    letter = Letter(DEAD, 0, 9, None, b"", 0, dict(headers), headers)
    assert 0 <= letter.replays < 10**20
    assert 0 <= letter.attempts < 10**20


def test_the_headers_are_those_that_are_documented() -> None:
    """Every name of ours stands in the schemas' description, those of Kafka's own queue among them."""
    text = (Path(__file__).parents[3] / "schemas" / "README.md").read_text()
    assert not [name for name in OURS if name.removeprefix(PREFIX) not in text and name not in text]
    apache = {"topic", "partition", "offset", "group", "delivery.count", "message"}
    assert {PREFIX + name for name in apache} <= OURS


def test_the_mark_of_a_replay_travels_on() -> None:
    """Only what the replay gave goes along, so nothing else that a record carries comes back by itself."""
    headers: Headers = (("a", b"b"), (REPLAY_RUN, b"r"), (REPLAY_COUNT, b"2"), (PREFIX + "topic", b"t"))
    assert replayed(headers) == ((REPLAY_RUN, b"r"), (REPLAY_COUNT, b"2"))
    letter = dead_letter(
        source(headers=headers), Cause(disposition="permanent", message=""), group="g", stage="send"
    )
    assert read(letter).replays == 2
