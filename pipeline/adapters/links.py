"""Unsubscribe links: the subscription sealed by Fernet (AES-128-CBC with HMAC-SHA256).

Sealed, not only signed, so that a link in a log or a forwarded mail tells no user id. The first key seals, every
key opens: to change it, put a new one before the old and keep the old as long as its mails may be read.
"""

import json
from collections.abc import Sequence

from cryptography.fernet import Fernet, InvalidToken, MultiFernet

from pipeline.model.errors import ConfigurationError
from pipeline.model.unsubscribe import Subscription

_LONGEST = 4_096  # characters of a token that is looked at; ours have some 400


class Links:
    """Makes the links under one address, and reads them."""

    def __init__(self, base: str, keys: Sequence[str]) -> None:
        """Raises ConfigurationError when there is no key, or one is none."""
        if not keys:
            raise ConfigurationError("an unsubscribe link needs a key: set EVERPOST_UNSUBSCRIBE_KEYS")
        try:
            self._fernet = MultiFernet([Fernet(key) for key in keys])
        except ValueError as error:
            raise ConfigurationError(
                "EVERPOST_UNSUBSCRIBE_KEYS: a key is 32 random bytes in URL-safe base64, "
                "as in `openssl rand -base64 32 | tr '+/' '-_'`"
            ) from error
        self._base = base.rstrip("/")

    def __call__(self, of: Subscription) -> str:
        """The link that ends it."""
        sealed = self._fernet.encrypt(json.dumps(of, ensure_ascii=False).encode(errors="surrogatepass"))
        return f"{self._base}/{sealed.decode().rstrip('=')}"

    def read(self, token: str) -> Subscription | None:
        """What the link's last part ends; None when it is none of ours, or not whole."""
        if len(token) > _LONGEST or not token.isascii():
            return None
        try:
            opened = self._fernet.decrypt(token + "=" * (-len(token) % 4))
        except InvalidToken:
            return None
        return Subscription(*json.loads(opened.decode(errors="surrogatepass")))
