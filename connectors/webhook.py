"""Webhooks after the Standard Webhooks specification: one signed POST of JSON, to whoever speaks for itself.

A webhook serves any channel that EVERPOST_PROVIDERS gives it, in one of two ways. With option `url` it is
the company's own gateway: every message of the channel goes there, the address inside. Without it the
address is itself the endpoint, an https URL that a user has given, and so it is dialled only by name, at
port 443, never in a private network, and never by way of a redirect; option `hosts` lists others.

The receiver knows a repeat by `webhook-id`, which is the delivery id on every attempt; a lost answer is
uncertain all the same, as with every provider. HTTP 410 says in both ways: this address is dead.

Options: `secrets` (one or more, separated by spaces: `whsec_` and the base64 of 24 to 64 bytes for
HMAC-SHA256, or `whsk_` and that of an Ed25519 key of 32 bytes, or 64 with its public half; each signs, so
that a secret can be exchanged without a gap. The specification advises an Ed25519 key when the endpoints
belong to different owners, who could sign for each other with a shared one); and if the defaults do not
suit, `url`, `hosts` (comma-separated `host`, `host:port`, `*.host`), `ca_file`, `timeout` (seconds for a
whole send), `connections`.

What became of a message may be told in the same way round: a POST of {"delivery_id", "fate", "code", "facts"},
`fate` in the words of `contract.Fate`, signed with one of `receipt_secrets` (whsec_...). Whoever reads the mail
that a mailbox provider's feedback loop sends, say, posts `complained`, whichever provider had the message.
A repeat says nothing new, so the age of its signature is not asked for.
"""

import base64
import hashlib
import hmac
import json
import ssl
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, get_args

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from yarl import URL

from connectors._answer import Answer, NoAnswer
from connectors._hosts import BadHosts, Hosts
from connectors._http import Http
from connectors._options import Options, utc_now
from connectors._post import Poster
from connectors._retry_after import retry_after
from connectors.contract import (
    Accepted,
    BadOptions,
    Callback,
    ChannelFault,
    Fate,
    Forged,
    InvalidAddress,
    Message,
    Outcome,
    Permanent,
    Receipt,
    Throttled,
    Transient,
    Uncertain,
)

Sign = Callable[[bytes], str]
"""From what is to be signed to an entry of the header `webhook-signature`."""

_TYPE = "notification.send"
_SECRET = range(24, 65)  # bytes, by the specification


def endpoint(address: str, hosts: Hosts) -> URL | Outcome:
    """The URL that a user has given, or why it is not dialled."""
    try:
        url = URL(address, encoded=True)
        plain = address.isascii() and address.isprintable() and " " not in address
    except ValueError:
        plain, url = False, URL()
    if not plain or url.scheme != "https" or not url.host or url.user is not None or url.password is not None:
        return InvalidAddress(reason="the address is no https URL without a password", code="malformed")
    if not hosts.allow(url):
        # Not InvalidAddress: a host missing in our own list must not cost the user his endpoint.
        return Permanent(reason="the endpoint's host is not in option 'hosts'", code="host-not-allowed")
    return url.with_fragment(None)


def to_body(message: Message) -> bytes:
    """The payload: what any gateway needs to send the message on. The same on every repeat but for the TTL."""
    data = {
        "id": message.delivery_id,
        "event_id": message.event_id,
        "to": message.address,
        "urgent": message.urgent,
        "time_to_live": int(message.time_to_live / timedelta(seconds=1)),
        "collapse_key": message.collapse_key,
        "headers": dict(message.headers) or None,
        **asdict(message.content),
    }
    present = {name: value for name, value in data.items() if value not in (None, "")}
    # ASCII, so that half a character, which is no UTF-8, gets through as its escape.
    return json.dumps({"type": _TYPE, "data": present}, separators=(",", ":")).encode()


def to_headers(message: Message, body: bytes, signers: Sequence[Sign], now: datetime) -> dict[str, str]:
    """Identity, time of the attempt, and a signature by each secret."""
    stamp = str(int(now.timestamp()))
    signed = b".".join((message.delivery_id.encode(), stamp.encode(), body))
    return {
        "Content-Type": "application/json",
        "User-Agent": "everpost",
        "webhook-id": message.delivery_id,
        "webhook-timestamp": stamp,
        "webhook-signature": " ".join(sign(signed) for sign in signers),
    }


def to_outcome(answer: Answer, now: datetime, *, gateway: bool) -> Outcome:
    """What an answer means; `gateway` when it is the operator's own, whose mistakes are the channel's."""
    code, wait = str(answer.status), retry_after(answer.retry_after, now)
    if 200 <= answer.status < 300:
        return Accepted()
    if answer.status == 504:  # a proxy before the receiver that gave up waiting
        return Uncertain(reason="a proxy timed out, the message may be taken", code=code)
    if answer.status in (408, 425) or answer.status >= 500:
        return Transient(reason="the receiver is not available", code=code, retry_after=wait)
    if answer.status == 429:
        return Throttled(reason="the receiver asks for less", code=code, retry_after=wait)
    return _refused(answer.status, code, gateway=gateway)


def _refused(status: int, code: str, *, gateway: bool) -> Outcome:
    if status == 410:
        return InvalidAddress(reason="the receiver says that the address is dead", code=code)
    if gateway and (status < 400 or status in (401, 403, 404, 405)):
        return ChannelFault(reason="the gateway takes no webhooks from us; check url, secrets", code=code)
    return Permanent(reason="the receiver refuses the message", code=code)


class Webhook:
    """The connector. Make it inside the running event loop."""

    name = "webhook"

    def __init__(
        self,
        *,
        poster: Http | Poster,
        target: URL | Hosts,
        signers: Sequence[Sign],
        capacity: int,
        clock: Callable[[], datetime],
    ) -> None:
        self.capacity = capacity
        self._poster = poster
        self.target = target
        self._signers = signers
        self._clock = clock

    async def send(self, message: Message) -> Outcome:
        """POST once."""
        target = self.target
        url = target if isinstance(target, URL) else endpoint(message.address, target)
        if not isinstance(url, URL):
            return url
        body = to_body(message)
        headers = to_headers(message, body, self._signers, self._clock())
        gateway = isinstance(target, URL)
        try:
            answer = await self._poster.post(str(url), body, headers)
        except NoAnswer as error:
            return _unanswered(error, gateway=gateway)
        return to_outcome(answer, self._clock(), gateway=gateway)

    async def aclose(self) -> None:
        """Let what is in flight finish, then close every connection."""
        await self._poster.aclose()


def _unanswered(error: NoAnswer, *, gateway: bool) -> Outcome:
    if error.fate == "private":
        return Permanent(reason="the endpoint's host leads into a private network", code="private-address")
    if error.fate == "untrusted" and gateway:
        return ChannelFault(
            reason="the gateway's certificate is not trusted; check url and ca_file", code=error.code
        )
    return error.outcome()


def create(options: Mapping[str, str]) -> Webhook:
    """The connector for these options. Raises BadOptions."""
    given = Options("webhook", options)
    signers = [signer(secret) for secret in given.text("secrets").split()]
    target = _target(given.text("url", ""), given.text("hosts", ""))
    ca_file = given.file("ca_file")
    # The specification asks for 15 to 30 s; a sender that waits so long should have many connections.
    timeout, connections = given.seconds("timeout", 15.0), given.number("connections", 200)
    given.text("receipt_secrets", "")  # the receiver's
    given.done()
    if not signers:
        raise BadOptions("webhook: option 'secrets' is empty; set it to one or more of whsec_..., whsk_...")
    return Webhook(
        poster=_poster(target, ca_file, timeout, connections),
        target=target,
        signers=signers,
        capacity=connections,
        clock=utc_now,
    )


def _poster(target: URL | Hosts, ca_file: Path | None, timeout: float, connections: int) -> Http | Poster:
    if isinstance(target, URL):
        return Http(ca_file=ca_file, timeout=timeout, at_once=connections)
    tls = ssl.create_default_context(cafile=ca_file)
    return Poster(tls=tls, timeout=timeout, connections=connections, resolver=target.resolver())


def _target(url: str, hosts: str) -> URL | Hosts:
    """The gateway, or where users' endpoints may lie."""
    if url and hosts.strip():
        raise BadOptions("webhook: set 'url', or 'hosts' for endpoints that users give, not both")
    try:
        if not url:
            return Hosts.parse(hosts) if hosts.strip() else Hosts.anywhere()
        gateway = URL(url)
    except BadHosts as error:
        raise BadOptions(f"webhook: option 'hosts': {error}") from error
    except ValueError:
        gateway = URL()
    if gateway.scheme != "https" or not gateway.host:
        raise BadOptions(f"webhook: option 'url' is {url!r}; set it to an https address")
    return gateway


def signer(secret: str) -> Sign:
    """Raises BadOptions, without the secret in its words."""
    kind, _, text = secret.partition("_")
    try:
        key = base64.b64decode(text, validate=True)
    except ValueError as error:
        raise BadOptions("webhook: option 'secrets' holds one that is no base64 behind its prefix") from error
    if kind == "whsec" and len(key) in _SECRET:
        return _hmac(key)
    if kind == "whsk" and len(key) in (32, 64):
        return _ed25519(Ed25519PrivateKey.from_private_bytes(key[:32]))
    raise BadOptions(
        "webhook: option 'secrets' holds one that is neither whsec_ and 24 to 64 bytes nor whsk_ and 32 or 64"
    )


def _hmac(key: bytes) -> Sign:
    def sign(content: bytes) -> str:
        return "v1," + base64.b64encode(hmac.digest(key, content, hashlib.sha256)).decode()

    return sign


def _ed25519(key: Ed25519PrivateKey) -> Sign:
    def sign(content: bytes) -> str:
        return "v1a," + base64.b64encode(key.sign(content)).decode()

    return sign


class WebhookReceiver:
    """Receipts in our own words, signed after Standard Webhooks."""

    def __init__(self, signers: Sequence[Sign]) -> None:
        self._signers = signers

    def read(self, callback: Callback) -> Receipt | None:
        """The receipt in the body."""
        id, at, given = (
            callback.headers.get(f"webhook-{name}", "").encode(errors="replace")
            for name in ("id", "timestamp", "signature")
        )
        wanted = [sign(b".".join((id, at, callback.body))).encode() for sign in self._signers]
        if not any(hmac.compare_digest(one, entry) for one in wanted for entry in given.split()):
            raise Forged("no entry of webhook-signature is by one of receipt_secrets")
        try:
            found = json.loads(callback.body)
            return _receipt(**found)
        except (ValueError, TypeError, AttributeError, RecursionError) as error:
            raise Forged("the body is no JSON of delivery_id, fate, code, facts") from error


def _receipt(delivery_id: str, fate: Fate, code: str = "", facts: Mapping[str, Any] | None = None) -> Receipt:
    known = {name: str(value) for name, value in (facts or {}).items()}
    if fate not in get_args(Fate) or not delivery_id:
        raise ValueError(fate)
    return Receipt(delivery_id=str(delivery_id), fate=fate, code=str(code), facts=known)


def create_receiver(options: Mapping[str, str]) -> WebhookReceiver:
    """What reads the receipts, by the same options. Raises BadOptions."""
    secrets = Options("webhook", options).text("receipt_secrets").split()
    if not all(secret.startswith("whsec_") for secret in secrets):
        raise BadOptions("webhook: option 'receipt_secrets' holds one that is no whsec_...")
    return WebhookReceiver([signer(secret) for secret in secrets])
