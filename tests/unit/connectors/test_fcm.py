"""FCM: what is posted, what an answer means, when the access token is fetched."""

import asyncio
import json
import threading
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from google.auth.exceptions import RefreshError, TransportError
from hypothesis import given
from hypothesis import strategies as st

from connectors._answer import Answer
from connectors._fcm_token import AccessToken, NoToken, Tokens
from connectors.contract import (
    SILENT,
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
from connectors.fcm import create, payloads, to_outcome, to_request

NOW = datetime(2026, 11, 23, 12, tzinfo=UTC)
MESSAGE = Message(
    delivery_id="5eed0000-0000-5000-8000-000000000001",
    event_id="event-1",
    address="device-1:APA91b-token",
    content=Content(
        title="Cancelled", text="Flight 17 ✈", link="https://example.com/17", image="https://example.com/i"
    ),
    collapse_key="flight-17",
)


def body(message: Message) -> dict[str, Any]:
    """The message in the request for one that has a request."""
    made = to_request(message, payloads())
    assert isinstance(made, bytes)
    return json.loads(made)["message"]


def test_a_request_says_everything() -> None:
    """Words, link, identity, priority and time to live are where Android looks for them."""
    assert body(MESSAGE) == {
        "token": "device-1:APA91b-token",
        "notification": {"title": "Cancelled", "body": "Flight 17 ✈", "image": "https://example.com/i"},
        "data": {"delivery_id": MESSAGE.delivery_id, "event_id": "event-1", "link": "https://example.com/17"},
        "android": {
            "priority": "normal",
            "ttl": "86400s",
            "collapse_key": "flight-17",
            "notification": {"tag": MESSAGE.delivery_id},
        },
    }


def test_sound_and_badge_are_said_to_both_kinds_of_phones() -> None:
    """Android's notification and Apple's `aps`; silence is the Android channel's to say."""
    shown = body(replace(MESSAGE, content=Content(text="x", sound="gong", badge=0)))
    assert shown["android"]["notification"] == {
        "tag": MESSAGE.delivery_id,
        "sound": "gong",
        "notification_count": 0,
    }
    assert shown["apns"] == {"payload": {"aps": {"sound": "gong", "badge": 0}}}
    silent = body(replace(MESSAGE, content=Content(text="x", sound=SILENT)))
    assert silent["android"]["notification"] == {"tag": MESSAGE.delivery_id}
    assert "apns" not in silent


@pytest.mark.parametrize(
    ("time_to_live", "ttl"),
    [
        (timedelta(seconds=1.9), "1s"),
        (timedelta(), "0s"),
        (timedelta(seconds=-5), "0s"),
        (timedelta(days=90), "2419200s"),  # four weeks are Google's limit
    ],
)
def test_time_to_live_stays_within_googles_limits(time_to_live: timedelta, ttl: str) -> None:
    """A time that Google would refuse becomes the nearest that it takes."""
    assert body(replace(MESSAGE, time_to_live=time_to_live))["android"]["ttl"] == ttl
    assert body(replace(MESSAGE, urgent=True))["android"]["priority"] == "high"


@given(st.text(max_size=3000), st.text(max_size=3000))
def test_a_payload_fits_or_no_request_is_made(title: str, text: str) -> None:
    """FCM takes 4,096 bytes of notification and data, counted in UTF-8."""
    made = to_request(replace(MESSAGE, content=Content(title=title, text=text)), payloads())
    assert isinstance(made, bytes if len((title + text).encode()) < 3000 else bytes | Permanent)
    assert isinstance(made, Permanent if len((title + text).encode()) > 4096 else bytes | Permanent)


@pytest.mark.parametrize(
    "address", ["", "short", "with space in the middle", "a" * 4097, "é" * 20, "a" * 20 + "\n"]
)
def test_an_address_that_is_no_token_is_not_sent(address: str) -> None:
    """What no token holds ends before any request."""
    assert isinstance(to_request(replace(MESSAGE, address=address), payloads()), InvalidAddress)


def error(code: str = "", status: str = "", message: str = "", field: str = "") -> str:
    """Google's error body."""
    details: list[dict[str, Any]] = [{"@type": "type.googleapis.com/google.rpc.Help"}]
    if code:
        details.append({"@type": "type.googleapis.com/google.firebase.fcm.v1.FcmError", "errorCode": code})
    if field:
        violation = {"field": field, "description": "Invalid"}
        details.append({"@type": "type.googleapis.com/google.rpc.BadRequest", "fieldViolations": [violation]})
    return json.dumps({"error": {"status": status, "message": message, "details": details}})


OUTCOMES: list[tuple[int, str, type[Outcome], str]] = [
    (200, '{"name":"projects/p/messages/1"}', Accepted, ""),
    (200, "<html>hotel wifi</html>", Uncertain, "200"),
    (200, "[]", Uncertain, "200"),
    (404, error("UNREGISTERED", "NOT_FOUND"), InvalidAddress, "UNREGISTERED"),
    (404, error("", "NOT_FOUND"), ChannelFault, "NOT_FOUND"),  # a wrong project
    (404, "<html>", ChannelFault, "404"),  # a wrong URL
    (400, error("INVALID_ARGUMENT", "INVALID_ARGUMENT"), Permanent, "INVALID_ARGUMENT"),
    (400, error("INVALID_ARGUMENT", field="message.token"), InvalidAddress, "INVALID_ARGUMENT"),
    (400, error("", "INVALID_ARGUMENT", field="message.token"), InvalidAddress, "INVALID_ARGUMENT"),
    (400, error("INVALID_ARGUMENT", field="message.data"), Permanent, "INVALID_ARGUMENT"),
    (
        400,
        error("INVALID_ARGUMENT", message="The registration token is not a valid FCM registration token"),
        InvalidAddress,
        "INVALID_ARGUMENT",
    ),
    (400, "", Permanent, "400"),
    (413, "", Permanent, "413"),
    (403, error("SENDER_ID_MISMATCH", "PERMISSION_DENIED"), InvalidAddress, "SENDER_ID_MISMATCH"),
    (403, error("", "PERMISSION_DENIED"), ChannelFault, "PERMISSION_DENIED"),
    (403, "", ChannelFault, "403"),
    (401, error("THIRD_PARTY_AUTH_ERROR", "UNAUTHENTICATED"), ChannelFault, "THIRD_PARTY_AUTH_ERROR"),
    (401, error("", "UNAUTHENTICATED"), Transient, "UNAUTHENTICATED"),  # of an old token
    (401, "", Transient, "401"),
    (429, error("QUOTA_EXCEEDED", "RESOURCE_EXHAUSTED"), Throttled, "QUOTA_EXCEEDED"),
    (429, "", Throttled, "429"),
    (503, error("UNAVAILABLE", "UNAVAILABLE"), Transient, "UNAVAILABLE"),
    (500, error("INTERNAL", "INTERNAL"), Transient, "INTERNAL"),
    (500, error("UNSPECIFIED_ERROR"), Transient, "UNSPECIFIED_ERROR"),
    (502, "<html>bad gateway</html>", Transient, "502"),
    (408, "", Transient, "408"),
    (301, "", ChannelFault, "301"),  # never followed: the endpoint is wrong
    (100, "", Uncertain, "100"),
]


@pytest.mark.parametrize(("status", "text", "expected", "code"), OUTCOMES)
def test_what_an_answer_means(status: int, text: str, expected: type[Outcome], code: str) -> None:
    """Every answer in Google's table has its outcome, and keeps Google's word as its code."""
    outcome = to_outcome(Answer(status=status, body=text), NOW)
    assert type(outcome) is expected
    assert isinstance(outcome, Accepted) or outcome.code == code


def test_the_name_is_the_receipt() -> None:
    """What FCM calls the message is kept."""
    answer = Answer(status=200, body='{"name":"projects/p/messages/1"}')
    assert to_outcome(answer, NOW) == Accepted(provider_id="projects/p/messages/1")


@pytest.mark.parametrize(
    ("status", "asked", "wait"),
    [
        (429, timedelta(seconds=7), timedelta(seconds=7)),
        (429, None, timedelta(seconds=60)),  # Google's advice
        (503, timedelta(seconds=7), timedelta(seconds=7)),
        (503, None, None),
    ],
)
def test_retry_after_is_handed_on(status: int, asked: timedelta | None, wait: timedelta | None) -> None:
    """The pipeline decides the wait, and knows what Google asked for."""
    outcome = to_outcome(
        Answer(
            status=status, body="", retry_after=None if asked is None else str(int(asked.total_seconds()))
        ),
        NOW,
    )
    assert isinstance(outcome, Throttled | Transient)
    assert outcome.retry_after == wait


def test_a_new_token_that_is_refused_is_a_fault_of_the_channel() -> None:
    """A 401 for a token that was just fetched will not be healed by another."""
    outcome = to_outcome(Answer(status=401, body=""), NOW, token_age=timedelta(seconds=3))
    assert isinstance(outcome, ChannelFault)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                ["error", "details", "status", "message", "@type", "errorCode", "fieldViolations", "field"]
            ),
            inner,
            max_size=4,
        )
    ),
    max_leaves=15,
)


@given(st.integers(0, 999), st.text(max_size=20) | json_values.map(json.dumps))
def test_every_answer_means_something(status: int, text: str) -> None:
    """No body of whatever shape raises, and only 200 is a success."""
    outcome = to_outcome(Answer(status=status, body=text), NOW)
    assert not isinstance(outcome, Accepted) or status == 200


class Google:
    """A token endpoint in memory: counts fetches, fails on request, and holds them until let go."""

    def __init__(self) -> None:
        self.now = NOW
        self.fetches = 0
        self.errors: list[Exception] = []
        self.go = threading.Event()
        self.go.set()

    def clock(self) -> datetime:
        """The time that the test has set."""
        return self.now

    def fetch(self) -> AccessToken:
        """Block until let go, then fail or hand out the next token."""
        self.fetches += 1
        assert self.go.wait(5)
        if self.errors:
            raise self.errors.pop(0)
        return AccessToken(
            value=f"token-{self.fetches}", fetched_at=self.now, expires_at=self.now + timedelta(hours=1)
        )

    def tokens(self) -> Tokens:
        """What is tested, over this endpoint."""
        return Tokens(fetch=self.fetch, clock=self.clock)


async def test_many_sends_share_one_fetch() -> None:
    """One fetch for the process, however many wait for it."""
    google = Google()
    tokens = google.tokens()
    found = await asyncio.gather(*(tokens.current() for _ in range(50)))
    assert ({token.value for token in found}, google.fetches) == ({"token-1"}, 1)


async def test_a_token_is_renewed_before_it_ends_and_nobody_waits() -> None:
    """In the last minutes the old token still serves while the next one is fetched."""
    google = Google()
    tokens = google.tokens()
    await tokens.current()
    google.now += timedelta(minutes=56)
    google.go.clear()
    assert (await tokens.current()).value == "token-1"
    google.go.set()
    await until_renewed(tokens, "token-2")
    assert google.fetches == 2


async def until_renewed(tokens: Tokens, value: str) -> None:
    """Wait until the fetch in the background has come in."""
    async with asyncio.timeout(5):
        while (await tokens.current()).value != value:  # noqa: ASYNC110 - asking is what renews it
            await asyncio.sleep(0.001)


async def test_a_renewal_that_fails_early_harms_nobody_and_is_not_hammered() -> None:
    """While the old token is valid, a failing endpoint is asked once in ten seconds."""
    google = Google()
    tokens = google.tokens()
    await tokens.current()
    google.now += timedelta(minutes=56)
    google.errors = [TransportError("down")]
    for _ in range(20):
        assert (await tokens.current()).value == "token-1"
        await asyncio.sleep(0.002)
    assert google.fetches == 2
    google.now += timedelta(seconds=10)
    await until_renewed(tokens, "token-3")


@pytest.mark.parametrize(
    ("failure", "lasting"),
    [
        (TransportError("down"), False),
        (RefreshError("internal_failure", retryable=True), False),
        (RefreshError("invalid_grant: Invalid JWT Signature."), True),
    ],
)
async def test_no_token_says_whether_it_lasts(failure: Exception, lasting: bool) -> None:
    """An endpoint that is away is one thing, a service account that is refused another."""
    google = Google()
    google.errors = [failure]
    tokens = google.tokens()
    results = await asyncio.gather(*(tokens.current() for _ in range(3)), return_exceptions=True)
    assert [isinstance(result, NoToken) and result.lasting for result in results] == [lasting] * 3
    assert (await tokens.current()).value == "token-2"


async def test_refusals_of_one_token_fetch_one_new_token() -> None:
    """Two hundred refusals in flight fetch one token, and a late one leaves the new token alone."""
    google = Google()
    tokens = google.tokens()
    old = await tokens.current()
    for _ in range(200):
        tokens.refused(old)
    new = await tokens.current()
    tokens.refused(old)
    assert (new.value, await tokens.current(), google.fetches) == ("token-2", new, 2)


async def test_who_gives_up_does_not_end_the_fetch_for_the_others() -> None:
    """A cancelled send leaves the others their token."""
    google = Google()
    google.go.clear()
    tokens = google.tokens()
    first, second = asyncio.create_task(tokens.current()), asyncio.create_task(tokens.current())
    await asyncio.sleep(0)
    first.cancel()
    google.go.set()
    assert (await second).value == "token-1"
    assert first.cancelled()


async def test_closing_waits_for_no_fetch() -> None:
    """`aclose` ends the task at once; the thread ends with its own timeout."""
    google = Google()
    google.go.clear()
    tokens = google.tokens()
    waiting = asyncio.create_task(tokens.current())
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    await tokens.aclose()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    google.go.set()


@pytest.mark.parametrize(
    ("write", "named"),
    [
        (lambda _file: None, "service_account_path"),
        (lambda file: file.write_text("{"), "cannot read"),
        (lambda file: file.write_text("[]"), "no JSON object"),
        (lambda file: file.write_text("{}"), "project_id"),
        (lambda file: file.write_text('{"project_id": "p"}'), "no service account"),
    ],
)
async def test_a_bad_account_stops_the_start(
    tmp_path: Path, write: Callable[[Path], object], named: str
) -> None:
    """Found out at the start, not at the first message."""
    file = tmp_path / "account.json"
    write(file)
    with pytest.raises(BadOptions, match=named):
        create({"service_account_path": str(file)})
