"""DKIM: dkimpy, another implementation, finds every signature good, and none after a change."""

from datetime import UTC, datetime
from pathlib import Path

import dkim
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from hypothesis import given, settings
from hypothesis import strategies as st

from connectors._dkim import Dkim, Key, load
from connectors._mail import Mail, Sender, to_mail
from connectors.contract import BadOptions, Content, Message

NOW = datetime(2026, 11, 23, 12, 0, tzinfo=UTC)
RSA = rsa.generate_private_key(65537, 2048)
KEYS: tuple[Key, ...] = (RSA, ed25519.Ed25519PrivateKey.generate())
LIST = {
    "List-Unsubscribe": f"<https://example.com/u/{'x' * 300}>",
    "List-Unsubscribe-Post": "List-Unsubscribe=One-Click",
}
BODY = st.text(st.sampled_from("a b\t.é✈=\r\n") | st.characters(exclude_categories=["Cs"]), max_size=300)


def record(key: Key) -> bytes:
    """What stands in DNS."""
    public = key.public_key()
    if isinstance(public, rsa.RSAPublicKey):
        form, kind = serialization.PublicFormat.SubjectPublicKeyInfo, "rsa"
        data = public.public_bytes(serialization.Encoding.DER, form)
    else:
        kind = "ed25519"
        data = public.public_bytes_raw()
    return f"v=DKIM1; k={kind}; p={dkim.base64.b64encode(data).decode()}".encode()


def signed(key: Key, *, title: str = "Delayed", text: str = "Gate B4", html: str | None = None) -> bytes:
    """A mail, as it goes to the relay."""
    sender = Sender(
        mailbox="noreply@example.com",
        name="Ünited",
        domain="mail.example.com",
        dkim=Dkim(key=key, domain="example.com", selector="s1"),
    )
    content = Content(title=title, text=text, html=html)
    message = Message(
        delivery_id="6f96", event_id="e", address="ada@example.org", content=content, headers=LIST
    )
    found = to_mail(message, sender, NOW)
    assert isinstance(found, Mail)
    return found.content


def good(mail: bytes, key: Key) -> bool:
    """What a receiver finds, who asks DNS for the key."""
    asked = list[bytes]()

    def answer(name: bytes, timeout: int = 5) -> bytes:
        asked.append(name)
        return record(key)

    found = dkim.verify(mail, dnsfunc=answer)
    assert set(asked) <= {b"s1._domainkey.example.com."}
    return found


@settings(max_examples=60, deadline=None)
@given(BODY, BODY, st.none() | BODY, st.sampled_from(KEYS))
def test_every_mail_has_a_good_signature(title: str, text: str, html: str | None, key: Key) -> None:
    """Whatever the words: long subjects that are folded, spaces at line ends, empty bodies, two parts."""
    title = "".join(one for one in title if one.isprintable())
    assert good(signed(key, title=title, text=text, html=html), key)


@pytest.mark.parametrize("key", KEYS)
def test_a_relay_may_fold_and_trim(key: Key) -> None:
    """That is what `relaxed` is for."""
    mail = signed(key, text="two  words \nmore")
    folded = mail.replace(b"List-Unsubscribe: <", b"List-Unsubscribe:\r\n  <").replace(
        b"two  words ", b"two words"
    )
    assert folded != mail
    assert good(folded, key)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (b"Gate B4", b"Gate B5"),
        (b"Subject: Delayed", b"Subject: Cancelled"),
        (b"To: ada@", b"To: eve@"),
        (b"/u/x", b"/u/y"),
        (b"Date: ", b"Subject: Second\r\nDate: "),
        (b"Date: ", b"From: eve@example.com\r\nDate: "),
        (b"Date: ", b"List-Unsubscribe: <https://evil.example>\r\nDate: "),
    ],
)
@pytest.mark.parametrize("key", KEYS)
def test_a_changed_mail_has_none(key: Key, old: bytes, new: bytes) -> None:
    """Words, recipient, the unsubscribe link; and a second header of a name that is signed."""
    mail = signed(key)
    assert old in mail
    assert not good(mail.replace(old, new, 1), key)


def pem(key: rsa.RSAPrivateKey | ed25519.Ed25519PrivateKey | ec.EllipticCurvePrivateKey) -> bytes:
    """The file."""
    plain = serialization.NoEncryption()
    return key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, plain)


def test_the_key_comes_from_a_file(tmp_path: Path) -> None:
    """RSA or Ed25519; anything else is named with what to set."""
    file = tmp_path / "key.pem"
    for key in KEYS:
        file.write_bytes(pem(key))
        assert load(file, domain="example.com", selector="2026a.mail").selector == "2026a.mail"
    with pytest.raises(BadOptions, match="dkim_selector"):
        load(file, domain="example.com", selector="a;b")
    for bad in (
        b"no key",
        pem(ec.generate_private_key(ec.SECP256R1())),
        pem(rsa.generate_private_key(65537, 1024))[:99],
    ):
        file.write_bytes(bad)
        with pytest.raises(BadOptions, match="dkim_key"):
            load(file, domain="example.com", selector="a")
