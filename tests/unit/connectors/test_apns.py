"""APNs: what goes on the wire, what an answer means, when the provider token changes."""

import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from hypothesis import given
from hypothesis import strategies as st

from connectors.apns import Request, Signer, create, to_outcome, to_request
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

NOW = datetime(2026, 11, 23, 12, tzinfo=UTC)
MESSAGE = Message(
    delivery_id="5eed0000-0000-5000-8000-000000000001",
    event_id="event-1",
    address="ab" * 32,
    content=Content(
        title="Cancelled", text="Flight 17 ✈", link="https://example.com/17", image="https://example.com/i"
    ),
)


def request(message: Message) -> Request:
    """The request for a message that has one."""
    made = to_request(message, host="api.push.apple.com", topic="org.everpost.app", now=NOW)
    assert isinstance(made, Request)
    return made


def headers(message: Message) -> dict[str, str]:
    """Its headers; none comes twice."""
    found = request(message).headers
    assert len(dict(found)) == len(found)
    return dict(found)


def test_a_request_says_everything_apple_asks_for() -> None:
    """Path, identity, topic, type, priority and expiration are in the headers, the words in the body."""
    assert headers(MESSAGE) == {
        ":method": "POST",
        ":scheme": "https",
        ":authority": "api.push.apple.com",
        ":path": f"/3/device/{'ab' * 32}",
        "apns-id": MESSAGE.delivery_id,
        "apns-topic": "org.everpost.app",
        "apns-push-type": "alert",
        "apns-priority": "5",
        "apns-expiration": str(int(NOW.timestamp()) + 24 * 3600),
    }
    assert json.loads(request(MESSAGE).body) == {
        "aps": {
            "alert": {"title": "Cancelled", "body": "Flight 17 ✈"},
            "sound": "default",
            "mutable-content": 1,
        },
        "event_id": "event-1",
        "link": "https://example.com/17",
        "image": "https://example.com/i",
    }


@pytest.mark.parametrize(
    ("sound", "badge", "aps"),
    [
        (None, None, {"sound": "default"}),
        ("gong.caf", 3, {"sound": "gong.caf", "badge": 3}),
        (SILENT, 0, {"badge": 0}),
    ],
)
def test_sound_and_badge(sound: str | None, badge: int | None, aps: dict[str, Any]) -> None:
    """Apple plays what is named, nothing when nothing is; 0 takes the badge away, absent leaves it."""
    message = replace(MESSAGE, content=Content(text="x", sound=sound, badge=badge))
    assert json.loads(request(message).body)["aps"] == {"alert": {"body": "x"}} | aps


def test_urgency_and_time_to_live_become_headers() -> None:
    """Urgent is 10; no time left means one try and no storing."""
    assert headers(replace(MESSAGE, urgent=True))["apns-priority"] == "10"
    assert headers(replace(MESSAGE, time_to_live=timedelta()))["apns-expiration"] == "0"
    assert headers(replace(MESSAGE, time_to_live=timedelta(seconds=-5)))["apns-expiration"] == "0"


@given(st.text(min_size=1, max_size=100))
def test_a_collapse_id_is_a_header_and_the_same_on_every_repeat(key: str) -> None:
    """Whatever the key, its id is printable ASCII of at most 64 bytes and depends on the key alone."""
    found = headers(replace(MESSAGE, collapse_key=key))["apns-collapse-id"]
    assert found == headers(replace(MESSAGE, collapse_key=key, event_id="other"))["apns-collapse-id"]
    assert 1 <= len(found) <= 64
    assert found.isascii()
    assert found.isprintable()
    assert found == found.strip()


def test_a_short_collapse_key_stays_readable() -> None:
    """Keys that fit are sent as they are; one byte more is hashed."""
    assert headers(replace(MESSAGE, collapse_key="k" * 64))["apns-collapse-id"] == "k" * 64
    assert headers(replace(MESSAGE, collapse_key="k" * 65))["apns-collapse-id"] != "k" * 65


def test_half_a_character_is_no_payload() -> None:
    """No encoding has it, so it is a clear no and not an exception."""
    made = to_request(replace(MESSAGE, content=Content(text="\ud800")), host="h", topic="t", now=NOW)
    assert isinstance(made, Permanent)


@given(st.text(max_size=3000), st.text(max_size=3000))
def test_a_payload_fits_or_no_request_is_made(title: str, text: str) -> None:
    """APNs takes 4,096 bytes, counted in UTF-8."""
    message = replace(MESSAGE, content=Content(title=title, text=text))
    made = to_request(message, host="h", topic="t", now=NOW)
    if isinstance(made, Request):
        assert len(made.body) <= 4096
        alert = json.loads(made.body)["aps"]["alert"]
        assert (alert.get("title", ""), alert.get("body", "")) == (title, text)
    else:
        assert isinstance(made, Permanent)
        assert len((title + text).encode()) > 3000


@pytest.mark.parametrize(("length", "fits"), [(4096, True), (4097, False)])
def test_the_limit_of_the_payload_is_exact(length: int, fits: bool) -> None:
    """4,096 bytes go out, one more does not."""
    empty = len(request(replace(MESSAGE, content=Content(text="x"))).body) - 1
    message = replace(MESSAGE, content=Content(text="x" * (length - empty)))
    assert isinstance(to_request(message, host="h", topic="t", now=NOW), Request) is fits


@pytest.mark.parametrize(
    "address", ["", "abc", "xy" * 32, "ab" * 15, "ab" * 101, "ab" * 32 + "\n", "../" * 20, "é" * 32]
)
def test_a_token_that_is_none_never_reaches_the_path(address: str) -> None:
    """Only hexadecimal becomes part of a path."""
    made = to_request(replace(MESSAGE, address=address), host="h", topic="t", now=NOW)
    assert isinstance(made, InvalidAddress)


OUTCOMES: list[tuple[int, str, type[Outcome]]] = [
    (200, "", Accepted),
    (400, "BadDeviceToken", InvalidAddress),
    (400, "DeviceTokenNotForTopic", InvalidAddress),
    (410, "Unregistered", InvalidAddress),
    (410, "ExpiredToken", InvalidAddress),
    (410, "", InvalidAddress),
    (400, "BadCollapseId", Permanent),
    (400, "BadExpirationDate", Permanent),
    (400, "BadMessageId", Permanent),
    (400, "BadPriority", Permanent),
    (400, "BadTopic", Permanent),
    (400, "DuplicateHeaders", Permanent),
    (400, "InvalidPushType", Permanent),
    (400, "MissingDeviceToken", Permanent),
    (400, "MissingTopic", Permanent),
    (400, "PayloadEmpty", Permanent),
    (400, "TopicDisallowed", Permanent),
    (400, "SomethingNew", Permanent),
    (400, "", Permanent),
    (404, "BadPath", Permanent),
    (405, "MethodNotAllowed", Permanent),
    (413, "PayloadTooLarge", Permanent),
    (400, "IdleTimeout", Transient),
    (403, "ExpiredProviderToken", Transient),  # of an old token
    (403, "BadCertificate", ChannelFault),
    (403, "BadCertificateEnvironment", ChannelFault),
    (403, "BadEnvironmentKeyIdInToken", ChannelFault),
    (403, "Forbidden", ChannelFault),
    (403, "InvalidProviderToken", ChannelFault),
    (403, "MissingProviderToken", ChannelFault),
    (403, "UnrelatedKeyIdInToken", ChannelFault),
    (429, "TooManyRequests", Throttled),
    (429, "TooManyProviderTokenUpdates", Throttled),
    (429, "", Throttled),
    (500, "InternalServerError", Transient),
    (502, "", Transient),
    (503, "ServiceUnavailable", Transient),
    (503, "Shutdown", Transient),
    (503, "", Transient),
    (0, "", Uncertain),  # a stream that ended without headers
    (302, "", Uncertain),
]


@pytest.mark.parametrize(("status", "reason", "expected"), OUTCOMES)
def test_what_an_answer_means(status: int, reason: str, expected: type[Outcome]) -> None:
    """Every answer in Apple's table has its outcome, and keeps Apple's word as its code."""
    outcome = to_outcome(status, reason)
    assert type(outcome) is expected
    if not isinstance(outcome, Accepted):
        assert outcome.code == (reason or str(status))


@given(st.integers(0, 999), st.text(max_size=30))
def test_every_answer_means_something(status: int, reason: str) -> None:
    """No answer raises, and only 200 is a success."""
    assert isinstance(to_outcome(status, reason), Accepted) is (status == 200)


@pytest.mark.parametrize(
    ("since", "registered", "expected"),
    [
        (NOW, NOW - timedelta(days=1), InvalidAddress),  # dead after it was registered
        (NOW - timedelta(days=1), NOW, Permanent),  # the device has registered again since
        (NOW, NOW, Permanent),
        (None, NOW, InvalidAddress),
        (NOW, None, InvalidAddress),
    ],
)
def test_an_old_death_does_not_kill_a_new_registration(
    since: datetime | None, registered: datetime | None, expected: type[Outcome]
) -> None:
    """A 410 whose timestamp is before the registration keeps the address."""
    assert type(to_outcome(410, "Unregistered", since, registered_at=registered)) is expected


@pytest.mark.parametrize(
    ("age", "expected"),
    [(timedelta(minutes=40), Transient), (timedelta(minutes=20), Transient), (timedelta(), ChannelFault)],
)
def test_a_new_token_that_is_expired_is_a_fault_of_the_channel(
    age: timedelta, expected: type[Outcome]
) -> None:
    """Signing again helps an old token only; otherwise the clock is wrong, and the reason says so."""
    outcome = to_outcome(403, "ExpiredProviderToken", token_age=age)
    assert type(outcome) is expected
    assert isinstance(outcome, Transient) or "clock" in str(outcome)


KEY = ec.generate_private_key(ec.SECP256R1())


def pem(key: ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey) -> str:
    """A private key as Apple hands it out."""
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    ).decode()


def signer() -> Signer:
    """A signer."""
    return Signer(key=KEY, key_id="KEYKEYKEY1", team_id="TEAMTEAM12")


def test_a_provider_token_says_who_and_when() -> None:
    """ES256, the key's id, the team and the time of issue."""
    token = signer().token(NOW).header.removeprefix("bearer ")
    claims = jwt.decode(token, KEY.public_key(), algorithms=["ES256"], options={"verify_iat": False})
    assert claims == {"iss": "TEAMTEAM12", "iat": int(NOW.timestamp())}
    assert jwt.get_unverified_header(token)["kid"] == "KEYKEYKEY1"


@given(st.lists(st.tuples(st.timedeltas(timedelta(), timedelta(minutes=30)), st.booleans()), max_size=40))
def test_a_token_is_young_and_seldom_changed(steps: list[tuple[timedelta, bool]]) -> None:
    """However often APNs calls it expired, a token lives from 20 to 40 minutes."""
    signing, now, issued = signer(), NOW, list[datetime]()
    for step, refused in steps:
        now += step
        token = signing.token(now)
        assert timedelta() <= now - token.issued_at < timedelta(minutes=40)
        if not issued or issued[-1] != token.issued_at:
            assert not issued or token.issued_at - issued[-1] >= timedelta(minutes=20)
            issued.append(token.issued_at)
        if refused:
            signing.refused(token, now)


def test_a_refusal_of_the_last_token_leaves_the_new_one() -> None:
    """Two hundred refusals in flight sign one new token, not two hundred."""
    signing, later = signer(), NOW + timedelta(minutes=30)
    old = signing.token(NOW)
    signing.refused(old, later)
    new = signing.token(later)
    signing.refused(old, later + timedelta(minutes=25))
    assert signing.token(later + timedelta(minutes=25)) is new


def test_a_clock_set_back_signs_anew() -> None:
    """A token from the future has never been valid."""
    signing = signer()
    signing.token(NOW)
    assert signing.token(NOW - timedelta(hours=1)).issued_at == NOW - timedelta(hours=1)


@pytest.mark.parametrize(
    ("option", "value", "named"),
    [
        ("key_path", "", "EVERPOST_CONNECTOR_APNS_KEY_PATH"),
        ("key_path", "/nowhere/key.p8", "key_path"),
        ("key_id", "", "EVERPOST_CONNECTOR_APNS_KEY_ID"),
        ("port", "https", "port"),
        ("port", "0", "port"),
        ("connections", "-1", "connections"),
        ("timeout", "0", "timeout"),
        ("timeout", "nan", "timeout"),
        ("ca_file", "/nowhere/ca.pem", "ca_file"),
    ],
)
async def test_bad_options_are_named(tmp_path: Path, option: str, value: str, named: str) -> None:
    """Each mistake stops the start with the option and what to set."""
    key = tmp_path / "key.p8"
    key.write_text(pem(KEY))
    good = {"key_path": str(key), "key_id": "K", "team_id": "T", "topic": "t"}
    await create(good).aclose()
    with pytest.raises(BadOptions, match=named):
        create(good | {option: value})


@pytest.mark.parametrize(
    "content",
    [
        "",
        "no key",
        pem(ec.generate_private_key(ec.SECP384R1())),
        pem(rsa.generate_private_key(public_exponent=65537, key_size=2048)),
        "é",
    ],
)
async def test_a_key_that_is_none_stops_the_start(tmp_path: Path, content: str) -> None:
    """Found out at the start, not at the first message."""
    key = tmp_path / "key.p8"
    key.write_text(content)
    with pytest.raises(BadOptions, match="key_path"):
        create({"key_path": str(key), "key_id": "K", "team_id": "T", "topic": "t"})
