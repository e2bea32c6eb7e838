"""What providers tell later: signed, read, and no stranger believed."""

from collections.abc import Callable, Mapping
from urllib.parse import urlencode

import pytest
from twilio.request_validator import RequestValidator
from vonage_http_client.auth import Auth

from connectors import twilio, vonage
from connectors.contract import BadOptions, Callback, Forged, Receipt, Receiver

URL = "https://everpost.example/receipts/twilio"
FORM_TYPE = {"content-type": "application/x-www-form-urlencoded"}
TWILIO = {"auth_token": "token", "status_callback": URL}
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


@pytest.mark.parametrize(
    ("make", "options"),
    [
        (twilio.create_receiver, {"auth_token": "token"}),
        (twilio.create_receiver, {"auth_token": "token", "status_callback": "http://plain.example"}),
        (vonage.create_receiver, {}),
        (vonage.create_receiver, {**VONAGE, "signature_method": "rot13"}),
    ],
)
def test_options_that_are_missing_are_named(
    make: Callable[[Mapping[str, str]], object], options: Mapping[str, str]
) -> None:
    """Without a secret nobody could be believed."""
    with pytest.raises(BadOptions):
        make(options)
