"""SMS by Vonage: what is posted, what each status means."""

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from vonage_sms import SmsMessage

from connectors._answer import Answer
from connectors.contract import (
    Accepted,
    BadOptions,
    ChannelFault,
    Content,
    InvalidAddress,
    Message,
    Outcome,
    Permanent,
    Throttled,
    Transient,
    Uncertain,
)
from connectors.vonage import create, to_outcome, to_request

NOW = datetime(2026, 11, 23, 12, 0, tzinfo=UTC)
DELIVERY = "6f9619ff-8b86-d011-b42d-00c04fc964ff"


def message(text: str = "Gate B4", address: str = "+447700900000", **fields: Any) -> Message:
    """A message with what matters to the test."""
    return Message(delivery_id=DELIVERY, event_id="e", address=address, content=Content(text=text), **fields)


def sms(text: str = "Gate B4", **fields: Any) -> SmsMessage:
    """The SMS for a message that has one."""
    found = to_request(message(text, **fields), "Everpost")
    assert isinstance(found, SmsMessage)
    return found


def answer(*statuses: str, text: str = "") -> Answer:
    """The SMS API's answer with these statuses of the parts."""
    parts = [
        {"status": status, "error-text": text, "message-id": f"ID{number}"}
        for number, status in enumerate(statuses)
    ]
    return Answer(status=200, body=json.dumps({"message-count": str(len(parts)), "messages": parts}))


def test_an_sms_carries_its_delivery() -> None:
    """The reference comes back in every receipt: it settles what a lost answer leaves open."""
    found = sms()
    assert (found.to, found.from_, found.text) == ("447700900000", "Everpost", "Gate B4")
    assert (found.client_ref, found.status_report_req) == (DELIVERY, True)


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("Gate B4, 10:30 @ 5€ {a}[b]~|\\^", "text"),  # the extension table
        ("ÄÖÜäöüß àéèìòù ΔΦΓΛΩΠΨΣΘΞ", "text"),
        ("Zażółć", "unicode"),
        ("ç", "unicode"),  # only the capital is in the table
        ("✈", "unicode"),
        ("`", "unicode"),
        ("\t", "unicode"),
    ],
)
def test_a_text_that_needs_it_is_sent_as_ucs2(text: str, kind: str) -> None:
    """3GPP TS 23.038: anything outside its tables would arrive as question marks."""
    assert sms(f"x{text}").type == kind


@pytest.mark.parametrize(
    ("lifetime", "ttl"),
    [
        (timedelta(seconds=1), 20_000),
        (timedelta(hours=1), 3_600_000),
        (timedelta(days=30), 604_800_000),
        (timedelta(-1), 20_000),
    ],
)
def test_the_lifetime_is_kept_in_the_bounds_of_the_api(lifetime: timedelta, ttl: int) -> None:
    """20 seconds to 7 days."""
    assert sms(time_to_live=lifetime).ttl == ttl


@pytest.mark.parametrize(
    "address",
    ["", "447700900000", "+0447700900", "+44 7700 900000", "+44770090000000000", "+4477", "+44770090000x",
     "+447700900000\n", "tel:+447700900000", "+४४७७००९०००००"],
)  # fmt: skip
def test_what_is_no_e164_number_is_an_invalid_address(address: str) -> None:
    """Nothing is posted for it."""
    assert isinstance(to_request(message(address=address), "Everpost"), InvalidAddress)


@pytest.mark.parametrize("text", ["", "  \n", "lone \ud800"])
def test_what_is_no_text_is_permanent(text: str) -> None:
    """Nothing is posted for it."""
    assert isinstance(to_request(message(text), "Everpost"), Permanent)


@pytest.mark.parametrize(
    ("found", "kind"),
    [
        (answer("0"), Accepted),
        (answer("1"), Throttled),
        (answer("2"), Permanent),
        (answer("3"), Permanent),
        (answer("4"), ChannelFault),
        (answer("5"), Transient),
        (answer("6"), InvalidAddress),
        (answer("7"), InvalidAddress),
        (answer("8"), ChannelFault),
        (answer("9"), ChannelFault),
        (answer("10"), Throttled),
        (answer("11"), ChannelFault),
        (answer("12"), Permanent),
        (answer("14"), ChannelFault),
        (answer("15"), Permanent),
        (answer("22"), Permanent),
        (answer("23"), Permanent),
        (answer("29"), Permanent),
        (answer("32"), ChannelFault),
        (answer("33"), InvalidAddress),
        (answer("99"), Transient),  # unknown: not sent, that much is sure
        (answer("0", "0"), Accepted),
        (answer("0", "1"), Permanent),  # partly sent: a repeat would send the first part twice
        (answer("5", "0", "0"), Permanent),
        (answer("1", "1"), Throttled),
        (answer(), Uncertain),
        (Answer(status=200, body="<html>"), Uncertain),
        (Answer(status=200, body="[]"), Uncertain),
        (Answer(status=200, body='{"messages":[{}]}'), Uncertain),
        (Answer(status=200, body='{"messages":[{"status":0}]}'), Uncertain),
        (Answer(status=200, body='{"messages":"0"}'), Uncertain),
        (Answer(status=200, body="\xff"), Uncertain),
        (Answer(status=200, body="[" * 60_000), Uncertain),
        (Answer(status=200, body=""), Uncertain),
        (Answer(status=202, body=""), Uncertain),
        (Answer(status=302), ChannelFault),
        (Answer(status=400), Permanent),
        (Answer(status=401), ChannelFault),
        (Answer(status=402), ChannelFault),
        (Answer(status=403), ChannelFault),
        (Answer(status=404), ChannelFault),
        (Answer(status=408), Transient),
        (Answer(status=422), Permanent),
        (Answer(status=429), Throttled),
        (Answer(status=500), Transient),
        (Answer(status=502, body=""), Transient),
        (Answer(status=503), Transient),
        (Answer(status=504), Uncertain),
    ],
)
def test_each_answer_has_its_outcome(found: Answer, kind: type[Outcome]) -> None:
    """HTTP first, then the status of every part inside an HTTP 200."""
    assert type(to_outcome(found, NOW)) is kind


@given(st.integers(100, 599), st.text(), st.none() | st.text())
def test_no_answer_raises(status: int, body: str, wait: str | None) -> None:
    """Whatever comes back is an outcome, and garbage after a success never counts as sent or not sent."""
    outcome = to_outcome(Answer(status=status, body=body, retry_after=wait), NOW)
    if 200 <= status < 300:
        assert isinstance(outcome, Uncertain)


@given(st.lists(st.sampled_from(["0", "1", "5", "6", "9", "12"]), min_size=1, max_size=5))
def test_what_is_partly_sent_is_never_sent_again(statuses: list[str]) -> None:
    """Only an SMS of which no part went out may be repeated."""
    outcome = to_outcome(answer(*statuses), NOW)
    if "0" in statuses:
        assert isinstance(outcome, Accepted | Permanent)
        assert isinstance(outcome, Accepted) == (set(statuses) == {"0"})
    else:
        assert not isinstance(outcome, Accepted)


def test_the_wait_is_read_from_header_and_text() -> None:
    """HTTP 429 has Retry-After; status 1 says it in words, in milliseconds."""
    by_header = to_outcome(Answer(status=429, retry_after="3"), NOW)
    by_text = to_outcome(answer("1", text="Throughput Rate Exceeded - please wait [ 250 ] and retry"), NOW)
    assert isinstance(by_header, Throttled)
    assert isinstance(by_text, Throttled)
    assert (by_header.retry_after, by_text.retry_after) == (timedelta(seconds=3), timedelta(milliseconds=250))


def test_every_part_of_an_accepted_sms_is_named() -> None:
    """Each part has its own receipt."""
    assert to_outcome(answer("0", "0"), NOW) == Accepted(provider_id="ID0,ID1")


@pytest.mark.parametrize("sender", ["a very long sender", "+12", "Ünïcode", "a\nb"])
async def test_a_sender_that_cannot_be_one_is_refused(sender: str) -> None:
    """A number, or 1 to 11 letters and digits."""
    with pytest.raises(BadOptions, match="sender"):
        create({"api_key": "k", "api_secret": "s", "sender": sender})
