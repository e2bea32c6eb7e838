"""SMS by Twilio: what is posted, what each status and code means, and what Twilio's own client would post."""

import json
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import parse_qs, parse_qsl

import pytest
from hypothesis import given
from hypothesis import strategies as st
from twilio.http import HttpClient
from twilio.http.response import Response
from twilio.rest import Client
from yarl import URL

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
from connectors.twilio import Origin, create, to_outcome, to_request

NOW = datetime(2026, 11, 23, 12, 0, tzinfo=UTC)
DELIVERY = "6f9619ff-8b86-d011-b42d-00c04fc964ff"
ACCOUNT = "AC" + "0" * 32
ORIGIN = Origin(sender="+15005550006", status_callback=URL("https://example.com/receipts?tenant=a"))


def message(text: str = "Gate B4 ✈", address: str = "+447700900000", **fields: Any) -> Message:
    """A message with what matters to the test."""
    return Message(delivery_id=DELIVERY, event_id="e", address=address, content=Content(text=text), **fields)


def form(origin: Origin = ORIGIN, **fields: Any) -> dict[str, str]:
    """The fields that are posted for a message that has some."""
    found = to_request(message(**fields), origin)
    assert isinstance(found, bytes)
    return dict(parse_qsl(found.decode(), strict_parsing=True))


def refused(status: int, code: int | None = None, wait: str | None = None) -> Answer:
    """Twilio's refusal with this status and code."""
    known = {} if code is None else {"code": code}
    return Answer(status=status, body=json.dumps({**known, "message": "words"}), retry_after=wait)


class Listening(HttpClient):
    """Stands in the place of the network under Twilio's own client, and keeps what it is asked to send."""

    def __init__(self) -> None:
        self.url = ""
        self.sent: dict[str, str] = {}
        self.auth: tuple[str, str] = ("", "")

    def request(self, *args: Any, **options: Any) -> Response:
        """Keep the request; answer as Twilio does."""
        self.url, self.auth = args[1], options["auth"]
        self.sent = {name: str(value) for name, value in options["data"].items()}
        return Response(201, '{"sid": "SM1"}')


@pytest.mark.parametrize("sender", ["+15005550006", "MG" + "a" * 32, "Everpost"])
async def test_the_request_is_the_one_of_twilios_own_client(sender: str) -> None:
    """Same address, same credentials, same fields."""
    ours = form(Origin(sender=sender, status_callback=ORIGIN.status_callback))
    listening = Listening()
    by = {"messaging_service_sid": sender} if sender.startswith("MG") else {"from_": sender}
    Client(ACCOUNT, "secret", http_client=listening).messages.create(
        to="+447700900000",
        body="Gate B4 ✈",
        validity_period=36_000,
        status_callback=f"https://example.com/receipts?tenant=a&delivery_id={DELIVERY}",
        **by,
    )
    connector = create({"account_sid": ACCOUNT, "auth_token": "secret", "sender": sender})
    await connector.aclose()
    callbacks = [URL(fields.pop("StatusCallback")) for fields in (ours, listening.sent)]
    assert callbacks[0] == callbacks[1]
    assert ours == listening.sent
    assert (str(connector.url), listening.auth) == (listening.url, (ACCOUNT, "secret"))


def test_the_status_callback_carries_the_delivery() -> None:
    """It is all that Twilio hands back: it settles what a lost answer leaves open."""
    query = parse_qs(URL(form()["StatusCallback"]).raw_query_string)
    assert query == {"tenant": ["a"], "delivery_id": [DELIVERY]}
    assert "StatusCallback" not in form(Origin(sender="Everpost"))


@pytest.mark.parametrize(
    ("lifetime", "validity"),
    [
        (timedelta(-1), "1"),
        (timedelta(milliseconds=900), "1"),
        (timedelta(hours=1), "3600"),
        (timedelta(days=1), "36000"),
    ],
)
def test_the_lifetime_is_kept_in_the_bounds_of_the_api(lifetime: timedelta, validity: str) -> None:
    """1 second to 10 hours."""
    assert form(time_to_live=lifetime)["ValidityPeriod"] == validity


@pytest.mark.parametrize("address", ["", "447700900000", "+44 7700 900000", "+447700900000\n", "+4477"])
def test_what_is_no_e164_number_is_an_invalid_address(address: str) -> None:
    """Nothing is posted for it."""
    assert isinstance(to_request(message(address=address), ORIGIN), InvalidAddress)


@pytest.mark.parametrize("text", ["", "  \n", "lone \ud800"])
def test_what_is_no_text_is_permanent(text: str) -> None:
    """Nothing is posted for it."""
    assert isinstance(to_request(message(text), ORIGIN), Permanent)


@pytest.mark.parametrize(
    ("found", "kind"),
    [
        (Answer(status=201, body='{"sid": "SM1", "status": "queued"}'), Accepted),
        (Answer(status=200, body='{"sid": "SM1", "status": "accepted"}'), Accepted),
        (Answer(status=201, body=""), Uncertain),
        (Answer(status=201, body="<html>"), Uncertain),
        (Answer(status=201, body='{"sid": 1}'), Uncertain),
        (Answer(status=201, body="[]"), Uncertain),
        (Answer(status=200, body="[" * 60_000), Uncertain),
        (Answer(status=302), ChannelFault),
        (refused(400), Permanent),
        (refused(400, 99_999), Permanent),  # a code that does not exist yet
        (refused(401), ChannelFault),
        (refused(401, 20003), ChannelFault),
        (refused(401, 21614), ChannelFault),  # HTTP decides
        (refused(402), ChannelFault),
        (refused(403), ChannelFault),
        (refused(404, 20404), ChannelFault),
        (refused(405, 20004), ChannelFault),
        (refused(408), Transient),
        (refused(409), Permanent),
        (refused(422), Permanent),
        (refused(429), Throttled),
        (refused(429, 20429), Throttled),
        (refused(500, 20500), Uncertain),  # Twilio: a repeat may come twice
        (Answer(status=502, body="<html>bad gateway</html>"), Uncertain),
        (refused(503, 20503), Transient),
        (refused(504), Uncertain),
    ],
)
def test_each_status_has_its_outcome(found: Answer, kind: type[Outcome]) -> None:
    """HTTP decides first."""
    assert type(to_outcome(found, NOW)) is kind


@pytest.mark.parametrize(
    ("codes", "kind"),
    [
        ((21211, 21217, 21265, 21266, 21268, 21610, 21614, 21635), InvalidAddress),
        ((14107, 20429, 21611, 63018), Throttled),
        ((21730,), Transient),
        ((21408, 21602, 21604, 21605, 21608, 21612, 21617, 21619, 21623, 21624, 572002, 572005), Permanent),
        ((30007, 30034, 90007), Permanent),
        ((10001, 20005, 30002, 90010), ChannelFault),  # the account
        ((21212, 21267, 21601, 21603, 21606, 21607, 21609, 21659, 21660, 21661), ChannelFault),  # our sender
        ((21701, 21703, 21705), ChannelFault),
    ],
)
def test_each_code_has_its_outcome(codes: tuple[int, ...], kind: type[Outcome]) -> None:
    """Whose fault it is: the number's, the message's, the sender's or the account's."""
    for code in codes:
        assert type(to_outcome(refused(400, code), NOW)) is kind, code


def test_a_fault_of_the_channel_names_the_option() -> None:
    """Whoever reads the alert knows what to set."""
    for code, option in ((21606, "sender"), (21609, "status_callback"), (21660, "account_sid")):
        outcome = to_outcome(refused(400, code), NOW)
        assert isinstance(outcome, ChannelFault)
        assert option in outcome.reason
        assert outcome.code == f"400 {code}"


@pytest.mark.parametrize(
    "answer", [refused(429, 20429, "3"), refused(503, None, "3"), refused(400, 21611, "3")]
)
def test_the_wait_is_kept(answer: Answer) -> None:
    """The pipeline waits, not the connector."""
    outcome = to_outcome(answer, NOW)
    assert isinstance(outcome, Throttled | Transient)
    assert outcome.retry_after == timedelta(seconds=3)


@given(st.integers(100, 599), st.text() | st.from_type(dict[str, int]).map(json.dumps), st.none() | st.text())
def test_no_answer_raises(status: int, body: str, wait: str | None) -> None:
    """Whatever comes back is an outcome, and garbage after a success never counts as sent or not sent."""
    outcome = to_outcome(Answer(status=status, body=body, retry_after=wait), NOW)
    if 200 <= status < 300:
        assert isinstance(outcome, Uncertain)


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"account_sid": "5a5a"}, "account_sid"),
        ({"sender": "a very long sender"}, "sender"),
        ({"sender": "MG12"}, ""),  # four letters and digits are a name
        ({"status_callback": "http://example.com"}, "status_callback"),
        ({"status_callback": "https://[::"}, "status_callback"),
        ({"host": "a b"}, "host"),
    ],
)
async def test_wrong_options_are_named(changes: dict[str, str], named: str) -> None:
    """An option that cannot work stops the start."""
    options = {"account_sid": ACCOUNT, "auth_token": "secret", "sender": "Everpost"} | changes
    if not named:
        await create(options).aclose()
        return
    with pytest.raises(BadOptions, match=named):
        create(options)
