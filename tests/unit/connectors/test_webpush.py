"""Web Push: what is sent, what an answer means, and whose fault a refused key is."""

import base64
import json
import os
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from hypothesis import given
from hypothesis import strategies as st
from py_vapid import Vapid02

from connectors._answer import Answer
from connectors._ece import SALT, encrypted, new_key, receiver
from connectors._hosts import Hosts
from connectors.contract import (
    SILENT,
    Accepted,
    ChannelFault,
    Content,
    InvalidAddress,
    Message,
    Outcome,
    Permanent,
    Throttled,
    Transient,
)
from connectors.sandbox.webpush import decrypt, subscription, token_refusal
from connectors.webpush import (
    MAX_PAYLOAD,
    PUSH_SERVICES,
    Request,
    Standing,
    Tokens,
    to_outcome,
    to_request,
    topic,
)

NOW = datetime(2026, 11, 23, 12, 0, tzinfo=UTC)
ORIGIN = "https://fcm.googleapis.com"
HOSTS = Hosts.public(*PUSH_SERVICES)
ADDRESS = subscription("device", ORIGIN)


def message(address: str = ADDRESS, **fields: Any) -> Message:
    """A message with what matters to the test."""
    defaults: dict[str, Any] = {"content": Content(title="Delayed", text="Gate B4"), "event_id": "e"}
    return Message(delivery_id="6f9619ff-8b86-d011-b42d-00c04fc964ff", address=address, **defaults | fields)


def request(**fields: Any) -> Request:
    """The request for a message that has one."""
    found = to_request(message(**fields), HOSTS)
    assert isinstance(found, Request)
    return found


@pytest.mark.parametrize(
    ("lifetime", "ttl"),
    [
        (timedelta(hours=1), "3600"),
        (timedelta(days=90), "2419200"),
        (timedelta(seconds=-1), "0"),
        (timedelta(milliseconds=1500), "1"),
    ],
)
def test_ttl_is_always_set_in_bounds(lifetime: timedelta, ttl: str) -> None:
    """No TTL would mean: now or never."""
    assert request(time_to_live=lifetime).headers["TTL"] == ttl


def test_urgent_is_urgent() -> None:
    """Urgency wakes a sleeping device only when the message says so."""
    assert [request(urgent=urgent).headers["Urgency"] for urgent in (True, False)] == ["high", "normal"]


@given(st.text())
def test_a_topic_is_legal_and_the_same_on_every_repeat(key: str) -> None:
    """RFC 8030, 5.4: at most 32 characters of the base64url alphabet."""
    assert len(topic(key)) == 32
    assert base64.urlsafe_b64decode(topic(key))
    assert topic(key) == topic(key)


def test_the_topic_comes_from_the_collapse_key_or_the_delivery() -> None:
    """A repeat of the same delivery, or a later one with the same key, replaces what is pending."""
    assert request(collapse_key="flight-17").headers["Topic"] == topic("flight-17")
    assert request().headers["Topic"] == topic("6f9619ff-8b86-d011-b42d-00c04fc964ff")


@given(st.text(st.characters(exclude_categories=["Cs"]), max_size=300), st.text(max_size=10))
def test_the_browser_reads_what_was_written(text: str, title: str) -> None:
    """Encrypted by RFC 8291 and decrypted with the device's key, the words are the same."""
    wanted = request(content=Content(title=title, text=text, link="https://example.com/17"))
    body = encrypted(wanted.to, wanted.payload, new_key(), os.urandom(SALT))
    seen = decrypt("device", body)
    assert (seen["text"], seen["link"]) == (text, "https://example.com/17")
    assert seen["title"] == title.encode(errors="replace").decode()
    assert seen["id"] == "6f9619ff-8b86-d011-b42d-00c04fc964ff"


def test_badge_and_silence_are_for_the_service_worker() -> None:
    """`setAppBadge` and `silent`; without them it learns of neither."""
    said = json.loads(request(content=Content(text="x", sound=SILENT, badge=0)).payload)
    assert (said["badge"], said["silent"]) == (0, True)
    usual = json.loads(request(content=Content(text="x", sound="gong")).payload)
    assert not usual.keys() & {"badge", "silent"}


def from_base64url(text: str) -> bytes:
    """The bytes; padding is not given."""
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))


def test_the_example_of_the_rfc() -> None:
    """RFC 8291, appendix A: with its keys and its salt the body is the one that stands there."""
    to = receiver(
        from_base64url(
            "BCVxsr7N_eNgVRqvHtD0zTZsEc6-VV-JvLexhqUzORcxaOzi6-AYWXvTBHm4bjyPjs7Vd8pZGH6SRpkNtoIAiw4"
        ),
        from_base64url("BTBZMqHH6r4Tts7J_aSIgg"),
    )
    number = int.from_bytes(from_base64url("yfWPiYE-n46HLnH0KqZOF1fJJU3MYrct3AELtAQ-oRw"), "big")
    body = encrypted(
        to,
        b"When I grow up, I want to be a watermelon",
        ec.derive_private_key(number, ec.SECP256R1()),
        from_base64url("DGv6ra1nlYgDCS1FRnbzlw"),
    )
    assert body == from_base64url(
        "DGv6ra1nlYgDCS1FRnbzlwAAEABBBP4z9KsN6nGRTbVYI_c7VJSPQTBtkgcy27mlmlMoZIIgDll6e3vCYLocInmYWAmS6TlzAC8w"
        "EqKK6PBru3jl7A_yl95bQpu6cVPTpK4Mqgkf1CXztLVBSt2Ks3oZwbuwXPXLWyouBWLVWGNWQexSgSxsj_Qulcy4a-fN"
    )


def test_a_payload_that_does_not_fit_is_refused_before_any_request() -> None:
    """3993 bytes become exactly the 4096 that every service takes; one more is permanent."""
    empty = len(request(content=Content()).payload)
    full = request(content=Content(text="x" * (MAX_PAYLOAD - empty)))
    body = encrypted(full.to, full.payload, new_key(), os.urandom(SALT))
    assert (len(full.payload), len(body)) == (MAX_PAYLOAD, 4096)
    refused = to_request(message(content=Content(text="x" * (MAX_PAYLOAD - empty + 1))), HOSTS)
    assert isinstance(refused, Permanent)
    assert refused.code == "payload-too-big"


def edited(**changes: Any) -> str:
    """The valid subscription with changes; keys go under `keys`."""
    found = json.loads(ADDRESS)
    keys = {name: changes.pop(name) for name in ("p256dh", "auth") if name in changes}
    return json.dumps(found | changes | {"keys": found["keys"] | keys})


@pytest.mark.parametrize(
    "address",
    [
        "",
        "null",
        "[]",
        '"text"',
        "{}",
        "[" * 100_000,
        edited(endpoint="http://fcm.googleapis.com/x"),
        edited(endpoint="https://user:secret@fcm.googleapis.com/x"),
        edited(endpoint="https:///x"),
        edited(endpoint="/x"),
        edited(endpoint="https://fcm.googleapis.com/x\r\nHost: evil"),
        edited(endpoint="https://fcm.googleapis.com:99999/x"),
        edited(endpoint=5),
        edited(auth="AAAA"),
        edited(auth=None),
        edited(auth="!" * 22),
        edited(p256dh="AAAA"),
        edited(p256dh=base64.urlsafe_b64encode(b"\x04" + b"\x01" * 64).decode()),  # not on the curve
        edited(p256dh=["x"]),
        json.dumps({"endpoint": ORIGIN}),
    ],
)
def test_a_malformed_subscription_is_an_invalid_address(address: str) -> None:
    """Nothing that is no subscription raises or is dialled."""
    assert isinstance(to_request(message(address=address), HOSTS), InvalidAddress)


@given(st.text() | st.recursive(st.none() | st.integers() | st.text(), st.lists).map(json.dumps))
def test_no_address_raises(address: str) -> None:
    """Whatever stands in the database, the answer is an outcome."""
    assert isinstance(to_request(message(address=address), HOSTS), InvalidAddress)


def test_a_host_outside_the_list_costs_no_address() -> None:
    """It is refused, and the subscription is kept: the list may be wrong, not the user."""
    outcome = to_request(message(address=subscription("device", "https://push.example.org")), HOSTS)
    assert isinstance(outcome, Permanent)
    assert outcome.code == "host-not-allowed"


@pytest.mark.parametrize(
    ("answer", "kind"),
    [
        (Answer(status=200), Accepted),
        (Answer(status=201), Accepted),
        (Answer(status=202), Accepted),
        (Answer(status=302), Permanent),  # redirects are not followed
        (Answer(status=400), Permanent),
        (Answer(status=400, body="VAPID public key mismatch"), None),
        (Answer(status=400, body="UnauthorizedRegistration"), ChannelFault),
        (Answer(status=401), ChannelFault),
        (Answer(status=403), None),
        (Answer(status=403, body='{"reason":"BadJwtToken"}'), ChannelFault),
        (Answer(status=403, body='{"reason":"VapidPkHashMismatch"}'), None),
        (Answer(status=403, body="the VAPID credentials do not correspond to the credentials used"), None),
        (Answer(status=404), InvalidAddress),
        (Answer(status=406), Throttled),
        (Answer(status=408), Transient),
        (Answer(status=410), InvalidAddress),
        (Answer(status=413), Permanent),
        (Answer(status=429), Throttled),
        (Answer(status=500), Transient),
        (Answer(status=502), Transient),
        (Answer(status=503), Transient),
    ],
)
def test_each_status_has_its_outcome(answer: Answer, kind: type[Outcome] | None) -> None:
    """RFC 8030 and the public services; None: our key is not the one of this subscription."""
    assert type(to_outcome(answer, NOW)) is (kind or type(None))


@given(st.integers(100, 599), st.text(), st.none() | st.text())
def test_every_answer_has_an_outcome(status: int, body: str, wait: str | None) -> None:
    """No status and no body raises."""
    to_outcome(Answer(status=status, body=body, retry_after=wait), NOW)


def test_retry_after_is_handed_on() -> None:
    """In seconds and as a date, for 429 and 503."""
    throttled = to_outcome(Answer(status=429, retry_after="30"), NOW)
    away = to_outcome(Answer(status=503, retry_after="Mon, 23 Nov 2026 12:01:00 GMT"), NOW)
    assert isinstance(throttled, Throttled)
    assert isinstance(away, Transient)
    assert (throttled.retry_after, away.retry_after) == (timedelta(seconds=30), timedelta(seconds=60))


def test_a_stranger_among_accepted_ones_is_dead() -> None:
    """When the service knows our key, a subscription made for another one can never work."""
    standing = Standing()
    standing.accepted(ORIGIN)
    assert isinstance(standing.refused(ORIGIN, "e1", "403"), InvalidAddress)
    assert isinstance(standing.refused("https://web.push.apple.com", "e1", "403"), Transient)


def test_a_wrong_key_stops_the_channel_and_drops_no_address() -> None:
    """When a service accepts nobody, the key is wrong: the fifth different subscription says so."""
    standing = Standing()
    outcomes = [standing.refused(ORIGIN, endpoint, "403") for endpoint in ("a", "a", "b", "c", "d", "e", "a")]
    assert [type(outcome) for outcome in outcomes] == [Transient] * 5 + [ChannelFault] * 2


@given(st.lists(st.tuples(st.sampled_from("abc"), st.text(max_size=3), st.booleans())))
def test_no_address_is_dropped_before_the_key_is_proven(steps: list[tuple[str, str, bool]]) -> None:
    """InvalidAddress for a refused key needs one acceptance by the same service before."""
    standing, proven = Standing(), set[str]()
    for origin, endpoint, accepted in steps:
        if accepted:
            standing.accepted(origin)
            proven.add(origin)
        else:
            dropped = isinstance(standing.refused(origin, endpoint, "403"), InvalidAddress)
            assert dropped == (origin in proven)


def test_one_token_for_each_service_until_it_gets_old() -> None:
    """A push service refuses tokens beyond 24 h, and a new one for each push costs more than the push."""
    vapid = Vapid02(ec.generate_private_key(ec.SECP256R1()))
    tokens = Tokens(vapid, "mailto:ops@example.com")
    first = tokens.header(ORIGIN, NOW)
    public = first.partition("k=")[2]
    assert token_refusal(first, ORIGIN, public, NOW) is None
    assert token_refusal(first, "https://web.push.apple.com", public, NOW) is not None
    assert tokens.header(ORIGIN, NOW + timedelta(hours=10)) == first
    assert tokens.header("https://web.push.apple.com", NOW) != first
    later = NOW + timedelta(hours=11, minutes=1)
    renewed = tokens.header(ORIGIN, later)
    assert renewed != first
    assert token_refusal(first, ORIGIN, public, later) is None  # replaced before it ran out
    assert token_refusal(renewed, ORIGIN, public, later) is None
