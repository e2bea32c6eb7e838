"""Keys and certificates of the local providers, made at first use and then kept.

For loopback only: the private keys lie in plain files.
"""

import base64
import ssl
from dataclasses import dataclass
from pathlib import Path

import trustme
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa

_NAMES = ("localhost", "127.0.0.1")
_PrivateKey = ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey


@dataclass(frozen=True, slots=True, kw_only=True)
class Certs:
    """The files in one directory."""

    directory: Path

    @staticmethod
    def at(directory: Path) -> "Certs":
        """Make what is missing in `directory`; keep what is there."""
        directory.mkdir(parents=True, exist_ok=True)
        certs = Certs(directory=directory)
        if not certs.complete.exists():
            certs._make()
            certs.complete.touch()  # last, so that a kill in between makes everything anew
        return certs

    @property
    def complete(self) -> Path:
        """Marks that every other file is whole."""
        return self.directory / "complete"

    @property
    def ca(self) -> Path:
        """The certificate that a client must trust (PEM)."""
        return self.directory / "ca.pem"

    @property
    def leaf(self) -> Path:
        """The servers' key and certificate, for localhost and 127.0.0.1 (PEM)."""
        return self.directory / "leaf.pem"

    @property
    def apns_key(self) -> Path:
        """The ES256 key of the provider token (p8)."""
        return self.directory / "apns.p8"

    @property
    def account_key(self) -> Path:
        """The RSA key of the FCM service account (PEM)."""
        return self.directory / "account.pem"

    @property
    def vonage_key(self) -> Path:
        """The RSA key of the Vonage application (PEM)."""
        return self.directory / "vonage.pem"

    @property
    def vapid_key(self) -> Path:
        """The P-256 application server key of Web Push (PEM)."""
        return self.directory / "vapid.pem"

    def vapid_public(self) -> str:
        """The public half of `vapid_key` as browsers take it: base64url of the raw point, unpadded."""
        key = serialization.load_pem_private_key(self.vapid_key.read_bytes(), None)
        raw = key.public_key().public_bytes(
            serialization.Encoding.X962, serialization.PublicFormat.UncompressedPoint
        )
        return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()

    def server_context(self, *protocols: str) -> ssl.SSLContext:
        """TLS for a local server; `protocols` are offered by ALPN."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(self.leaf)
        if protocols:
            context.set_alpn_protocols(list(protocols))
        return context

    def _make(self) -> None:
        authority = trustme.CA()
        authority.cert_pem.write_to_path(self.ca)
        authority.issue_cert(*_NAMES).private_key_and_cert_chain_pem.write_to_path(self.leaf)
        self.apns_key.write_bytes(_pem(ec.generate_private_key(ec.SECP256R1())))
        self.vapid_key.write_bytes(_pem(ec.generate_private_key(ec.SECP256R1())))
        for file in (self.account_key, self.vonage_key):
            file.write_bytes(_pem(rsa.generate_private_key(public_exponent=65537, key_size=2048)))


def _pem(key: _PrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
