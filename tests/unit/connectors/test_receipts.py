"""What providers tell later: signed, read, and no stranger believed."""

from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from urllib.parse import urlencode

import pytest
from standardwebhooks import Webhook as Judge
from twilio.request_validator import RequestValidator
from vonage_http_client.auth import Auth

from connectors import twilio, vonage, webhook
from connectors.contract import BadOptions, Callback, Forged, Receipt, Receiver

URL = "https://everpost.example/receipts/twilio"
FORM_TYPE = {"content-type": "application/x-www-form-urlencoded"}
TWILIO = {"auth_token": "token", "status_callback": URL}
SECRET = "whsec_" + "MfKQ" * 8
VONAGE = {"signature_secret": "secret"}


def by_twilio(form: Mapping[str, str], query: str = "delivery_id=d-1", url: str = URL) -> Callback:
    """A status callback, signed by Twilio's own validator."""
    signed = RequestValidator("token").compute_signature(f"{url}?{query}" if query else url, form)
    headers = {**FORM_TYPE, "x-twilio-signature": str(signed)}
    return Callback(query=query, headers=headers, body=urlencode(form).encode())


def by_vonage(form: Mapping[str, str], method: str = "sha256") -> Callback:
    """A delivery receipt, signed by Vonage's own client."""
    auth = Auth(api_key="k", signature_secret="secret", signature_method=method)  # pyright: ignore[reportArgumentType]
    sig = auth.sign_params({**form})
    return Callback(query="", headers=FORM_TYPE, body=urlencode({**form, "sig": sig.upper()}).encode())


@pytest.mark.parametrize(
    ("status", "code", "fate"),
    [
        ("delivered", "", "delivered"),
        ("read", "", "delivered"),
        ("queued", "", "under_way"),
        ("sent", "", "under_way"),
        ("something new", "", "under_way"),
        ("undelivered", "30003", "failed"),
        ("undelivered", "30006", "dead_address"),
        ("failed", "30005", "dead_address"),
        ("failed", "21610", "opted_out"),
    ],
)
def test_twilio_by_its_words(status: str, code: str, fate: str) -> None:
    """Status and error say what became of it; number and words are left out."""
    form = {"MessageSid": "SM1", "MessageStatus": status, "To": "+15005550006", "Body": "a & b"}
    found = twilio.create_receiver(TWILIO).read(by_twilio(form | ({"ErrorCode": code} if code else {})))
    assert found is not None
    assert (found.delivery_id, found.fate, found.code) == ("d-1", fate, code)
    assert not found.facts.keys() & {"To", "Body"}


@pytest.mark.parametrize(
    ("status", "code", "fate"),
    [
        ("delivered", "0", "delivered"),
        ("accepted", "0", "under_way"),
        ("buffered", "0", "under_way"),
        ("something new", "99", "under_way"),
        ("failed", "2", "failed"),
        ("failed", "3", "dead_address"),
        ("rejected", "9", "dead_address"),
        ("expired", "1", "failed"),
    ],
)
@pytest.mark.parametrize("method", ["sha256", "sha512", "sha1", "md5"])
def test_vonage_by_its_words(status: str, code: str, fate: str, method: str) -> None:
    """The same for Vonage, with every way to sign."""
    form = {
        "msisdn": "15005550006",
        "status": status,
        "err-code": code,
        "client-ref": "d=1&",
        "timestamp": "1",
    }
    found = vonage.create_receiver({**VONAGE, "signature_method": method}).read(by_vonage(form, method))
    assert found is not None
    assert (found.delivery_id, found.fate, found.code) == ("d=1&", fate, code)
    assert "msisdn" not in found.facts


def test_vonage_by_get_and_by_json() -> None:
    """However the account has its receipts sent."""
    form = {"status": "delivered", "client-ref": "d-1", "timestamp": "1"}
    signed = by_vonage(form).body.decode()
    sig = signed.rpartition("sig=")[2]
    json = f'{{"status": "delivered", "client-ref": "d-1", "timestamp": 1, "sig": "{sig}"}}'
    reader = vonage.create_receiver(VONAGE)
    by_get = reader.read(Callback(query=signed, headers={}, body=b""))
    by_json = reader.read(
        Callback(query="", headers={"content-type": "application/json"}, body=json.encode())
    )
    assert by_get == by_json
    assert isinstance(by_get, Receipt)


def test_md5hash_is_the_digest_of_text_and_secret() -> None:
    """Vonage's oldest way: MD5 over the parameters and then the secret, no HMAC."""
    reader = vonage.create_receiver({**VONAGE, "signature_method": "md5hash"})
    # printf '&client-ref=d-1&status=delivered&timestamp=1secret' | md5sum
    body = b"client-ref=d-1&status=delivered&timestamp=1&sig=" + _MD5
    assert isinstance(reader.read(Callback(query="", headers=FORM_TYPE, body=body)), Receipt)


_MD5 = b"9a9327c255e83f33db469177d153ef0b"


@pytest.mark.parametrize(
    ("reader", "true"),
    [
        (twilio.create_receiver(TWILIO), by_twilio({"MessageStatus": "delivered"})),
        (
            vonage.create_receiver(VONAGE),
            by_vonage({"status": "delivered", "client-ref": "d-1", "timestamp": "1"}),
        ),
    ],
    ids=["twilio", "vonage"],
)
@pytest.mark.parametrize(
    "forge",
    [
        lambda one: Callback(query=one.query + "&x=1", headers=one.headers, body=one.body),
        lambda one: Callback(query=one.query, headers=one.headers, body=one.body + b"&x=1"),
        lambda one: Callback(
            query=one.query, headers={**FORM_TYPE, "x-twilio-signature": "é"}, body=b"sig=%FF"
        ),
        lambda one: Callback(query=one.query, headers={}, body=b""),
        lambda one: Callback(query=one.query, headers=one.headers, body=b"\xff\xfe"),
        lambda one: Callback(query=one.query, headers={"content-type": "application/json"}, body=b"[[[1]]"),
        lambda one: Callback(
            query=one.query, headers={"content-type": "application/json"}, body=b"[" * 100_000
        ),
        lambda one: Callback(query="&".join("a=1" for _ in range(1000)), headers=one.headers, body=one.body),
    ],
)
def test_no_stranger_is_believed(
    reader: Receiver, true: Callback, forge: Callable[[Callback], Callback]
) -> None:
    """Whatever is changed, added, left out or cannot be read: Forged, and no other error."""
    assert reader.read(true) is not None
    with pytest.raises(Forged):
        reader.read(forge(true))


def test_twilio_signs_with_the_port_or_without() -> None:
    """Both are Twilio's."""
    reader = twilio.create_receiver(
        {**TWILIO, "status_callback": "https://everpost.example:8443/receipts/twilio"}
    )
    for url in ("https://everpost.example:8443/receipts/twilio", URL):
        assert reader.read(by_twilio({"MessageStatus": "sent"}, url=url)) is not None


def test_what_is_not_ours_is_no_receipt() -> None:
    """A signed callback of another program on the same account says nothing to us."""
    assert twilio.create_receiver(TWILIO).read(by_twilio({"MessageStatus": "sent"}, query="")) is None
    assert vonage.create_receiver(VONAGE).read(by_vonage({"status": "delivered", "timestamp": "1"})) is None


def by_webhook(body: str, **headers: str) -> Callback:
    """A receipt in our own words, signed by the specification's own library."""
    at = datetime.now(UTC)  # noqa: TID251 - the library signs no other time
    signed = Judge(SECRET).sign("msg_1", at, body)
    marks = {
        "webhook-id": "msg_1",
        "webhook-timestamp": str(int(at.timestamp())),
        "webhook-signature": signed,
    }
    return Callback(query="", headers={**marks, **headers}, body=body.encode())


def test_a_feedback_loop_may_tell_by_webhook() -> None:
    """Whoever reads the complaints about e-mail posts them, signed with a secret of its own."""
    body = '{"delivery_id": "d-1", "fate": "complained", "code": "abuse", "facts": {"feedback-type": "abuse", "n": 1}}'
    found = webhook.create_receiver({"receipt_secrets": f"whsec_{'A' * 32} {SECRET}"}).read(by_webhook(body))
    facts = {"feedback-type": "abuse", "n": "1"}
    assert found == Receipt(delivery_id="d-1", fate="complained", code="abuse", facts=facts)


@pytest.mark.parametrize(
    "forged",
    [
        by_webhook('{"delivery_id": "d-1", "fate": "liked"}'),
        by_webhook('{"delivery_id": "", "fate": "delivered"}'),
        by_webhook('{"fate": "delivered"}'),
        by_webhook('{"delivery_id": "d-1", "fate": ["x"]}'),
        by_webhook('{"delivery_id": "d-1", "fate": "delivered", "facts": 1}'),
        by_webhook('{"delivery_id": "d-1", "fate": "delivered", "more": 1}'),
        by_webhook("[" * 100_000),
        by_webhook("[]"),
        by_webhook('{"delivery_id": "d-1", "fate": "delivered"}', **{"webhook-id": "msg_2"}),
        by_webhook('{"delivery_id": "d-1", "fate": "delivered"}', **{"webhook-signature": "v1,\udc80"}),
        Callback(query="", headers={}, body=b"{}"),
    ],
)
def test_a_webhook_must_be_signed_and_speak_our_words(forged: Callback) -> None:
    """Anything else is Forged, and no other error."""
    with pytest.raises(Forged):
        webhook.create_receiver({"receipt_secrets": SECRET}).read(forged)


@pytest.mark.parametrize(
    ("make", "options"),
    [
        (twilio.create_receiver, {"auth_token": "token"}),
        (twilio.create_receiver, {"auth_token": "token", "status_callback": "http://plain.example"}),
        (vonage.create_receiver, {}),
        (webhook.create_receiver, {}),
        (webhook.create_receiver, {"receipt_secrets": "whsk_" + "A" * 44}),
        (vonage.create_receiver, {**VONAGE, "signature_method": "rot13"}),
    ],
)
def test_options_that_are_missing_are_named(
    make: Callable[[Mapping[str, str]], object], options: Mapping[str, str]
) -> None:
    """Without a secret nobody could be believed."""
    with pytest.raises(BadOptions):
        make(options)
