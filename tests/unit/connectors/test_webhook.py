"""Webhooks: what is posted and where, how it is signed, and what each status means."""

import base64
import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from hypothesis import given
from hypothesis import strategies as st
from standardwebhooks import Webhook as Judge
from standardwebhooks import WebhookVerificationError
from yarl import URL

from connectors._answer import Answer
from connectors._hosts import Hosts
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
from connectors.webhook import create, endpoint, signer, to_body, to_headers, to_outcome

NOW = datetime(2026, 11, 23, 12, 0, tzinfo=UTC)
DELIVERY = "6f9619ff-8b86-d011-b42d-00c04fc964ff"
KEY = base64.b64encode(bytes(range(32))).decode()
SECRET = f"whsec_{KEY}"


def message(text: str = "Gate B4 ✈", **fields: Any) -> Message:
    """A message with what matters to the test."""
    return Message(
        delivery_id=DELIVERY, event_id="e", address="+447700900000", content=Content(text=text), **fields
    )


def test_the_official_library_believes_the_signature() -> None:
    """What we sign is what the specification's own receiver checks; any other byte is refused."""
    body = to_body(message())
    now = datetime.now(UTC)  # noqa: TID251 - the library compares with its own clock
    headers = to_headers(message(), body, [signer(SECRET)], now)
    judge = Judge(SECRET)
    assert judge.verify(body, headers) == json.loads(body)
    for forged in (
        lambda: judge.verify(body + b" ", headers),
        lambda: judge.verify(body, headers | {"webhook-id": "other"}),
        lambda: Judge("whsec_" + base64.b64encode(bytes(32)).decode()).verify(body, headers),
    ):
        with pytest.raises(WebhookVerificationError):
            forged()


def test_the_example_of_the_specification() -> None:
    """A vector from outside: the one of the specification's reference implementations."""
    secret = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
    content = b'msg_p5jXN8AQM9LWM0D4loKWxJek.1614265330.{"test": 2432232314}'
    assert signer(secret)(content) == "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="


@pytest.mark.parametrize("with_public_half", [True, False])
def test_an_asymmetric_key_signs(with_public_half: bool) -> None:
    """Receivers that know only the public half can check, and cannot sign for one another."""
    private = Ed25519PrivateKey.from_private_bytes(bytes(range(32)))
    raw = private.private_bytes(Encoding.Raw, PrivateFormat.Raw, NoEncryption())
    if with_public_half:
        raw += private.public_key().public_bytes_raw()
    version, _, signature = signer("whsk_" + base64.b64encode(raw).decode())(b"content").partition(",")
    assert version == "v1a"
    private.public_key().verify(base64.b64decode(signature), b"content")


def test_every_secret_signs() -> None:
    """While a secret is exchanged, receivers with the old one and with the new one both believe us."""
    old, new = SECRET, "whsec_" + base64.b64encode(bytes(24)).decode()
    body = to_body(message())
    now = datetime.now(UTC)  # noqa: TID251 - the library compares with its own clock
    headers = to_headers(message(), body, [signer(old), signer(new)], now)
    assert Judge(old).verify(body, headers) == Judge(new).verify(body, headers)


def test_a_repeat_has_the_same_identity_and_its_own_time() -> None:
    """The receiver drops what it has seen, and what is too old."""
    body = to_body(message())
    first, again = (
        to_headers(message(), body, [signer(SECRET)], now) for now in (NOW, NOW + timedelta(hours=1))
    )
    assert first["webhook-id"] == again["webhook-id"] == DELIVERY
    assert int(again["webhook-timestamp"]) - int(first["webhook-timestamp"]) == 3600
    assert first["webhook-signature"] != again["webhook-signature"]


def test_the_body_holds_what_a_gateway_needs() -> None:
    """And nothing that is not there."""
    sent = message(urgent=True, time_to_live=timedelta(minutes=5), headers={"List-Unsubscribe": "<x>"})
    assert json.loads(to_body(sent)) == {
        "type": "notification.send",
        "data": {
            "id": DELIVERY,
            "event_id": "e",
            "to": "+447700900000",
            "urgent": True,
            "time_to_live": 300,
            "headers": {"List-Unsubscribe": "<x>"},
            "text": "Gate B4 ✈",
        },
    }


@given(st.text())
def test_any_text_is_a_body(text: str) -> None:
    """Half characters included, which are no UTF-8."""
    assert json.loads(to_body(message("x" + text)))["data"]["text"] == "x" + text


@pytest.mark.parametrize(
    "address",
    ["", "example.com", "http://example.com/x", "https:///x", "https://u@example.com/x", "https://u:p@h.com/",
     "https://[::", "https://exa mple.com/", "https://example.com/\n", "ftp://example.com", "+447700900000",
     "https://bücher.example/"],
)  # fmt: skip
def test_what_is_no_endpoint_is_an_invalid_address(address: str) -> None:
    """Nothing is dialled for it."""
    assert isinstance(endpoint(address, Hosts.anywhere()), InvalidAddress)


@pytest.mark.parametrize(
    "address",
    ["https://127.0.0.1/x", "https://2130706433/x", "https://[::1]/x", "https://10.0.0.1/x",
     "https://169.254.169.254/latest/meta-data", "https://example.com:22/x"],
)  # fmt: skip
def test_an_endpoint_off_the_list_is_permanent(address: str) -> None:
    """Addresses in numbers and other ports are dialled only when the operator lists them."""
    assert isinstance(endpoint(address, Hosts.anywhere()), Permanent)


def test_an_endpoint_is_dialled_as_it_is_written() -> None:
    """Its path and query are its owner's; a fragment stays at home."""
    found = endpoint("https://example.com/a%2Fb?c=d%20e#f", Hosts.anywhere())
    assert str(found) == "https://example.com/a%2Fb?c=d%20e"


@pytest.mark.parametrize(
    ("status", "own", "users"),
    [
        (200, Accepted, Accepted),
        (202, Accepted, Accepted),
        (204, Accepted, Accepted),
        (301, ChannelFault, Permanent),
        (307, ChannelFault, Permanent),
        (400, Permanent, Permanent),
        (401, ChannelFault, Permanent),
        (403, ChannelFault, Permanent),
        (404, ChannelFault, Permanent),
        (405, ChannelFault, Permanent),
        (408, Transient, Transient),
        (409, Permanent, Permanent),
        (410, InvalidAddress, InvalidAddress),
        (413, Permanent, Permanent),
        (422, Permanent, Permanent),
        (425, Transient, Transient),
        (429, Throttled, Throttled),
        (500, Transient, Transient),
        (502, Transient, Transient),
        (503, Transient, Transient),
        (504, Uncertain, Uncertain),
    ],
)
def test_each_status_has_its_outcome(status: int, own: type[Outcome], users: type[Outcome]) -> None:
    """The mistakes of one's own gateway are the channel's; those of one user's endpoint are its own."""
    answer = Answer(status=status)
    assert type(to_outcome(answer, NOW, gateway=True)) is own
    assert type(to_outcome(answer, NOW, gateway=False)) is users


@given(st.integers(100, 599), st.text(), st.none() | st.text(), st.booleans())
def test_no_answer_raises(status: int, body: str, wait: str | None, gateway: bool) -> None:
    """Whatever comes back is an outcome."""
    to_outcome(Answer(status=status, body=body, retry_after=wait), NOW, gateway=gateway)


def test_the_wait_is_kept() -> None:
    """The pipeline waits, not the connector."""
    for status in (429, 503):
        outcome = to_outcome(Answer(status=status, retry_after="3"), NOW, gateway=False)
        assert isinstance(outcome, Throttled | Transient)
        assert outcome.retry_after == timedelta(seconds=3)


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"secrets": " "}, "secrets"),
        ({"secrets": "whsec_short"}, "secrets"),
        ({"secrets": f"whpk_{KEY}"}, "secrets"),
        ({"secrets": f"{SECRET} whsec_ß"}, "secrets"),
        ({"url": "http://example.com"}, "url"),
        ({"url": "https://[::"}, "url"),
        ({"hosts": "a b"}, "hosts"),
        ({"url": "https://example.com", "hosts": "example.com"}, "hosts"),
    ],
)
async def test_wrong_options_are_named(changes: dict[str, str], named: str) -> None:
    """An option that cannot work stops the start, and no secret stands in the words."""
    with pytest.raises(BadOptions, match=named) as refused:
        create({"secrets": SECRET} | changes)
    assert KEY not in str(refused.value)


async def test_a_gateway_may_be_anywhere() -> None:
    """The operator's own host may lie in the operator's own network."""
    connector = create({"secrets": SECRET, "url": "https://10.0.0.1:8443/sms"})
    assert connector.target == URL("https://10.0.0.1:8443/sms")
    await connector.aclose()
