"""Web Push (RFC 8030) with encryption (RFC 8291) and application server keys (VAPID, RFC 8292).

py_vapid signs; the encryption (`_ece.py`) and the POST are our own, because pywebpush follows redirects, waits
up to 10,000 seconds, signs for the wrong origin when its claims are used twice, and takes twice the time. What
it encrypts with, http_ece, stands in the tests instead and must be able to read ours.

The endpoint is a user's input: only https to an allowed host is dialled, and never by way of a redirect.

Options: `vapid_key` (PEM file of the P-256 key), `subject` (mailto: or https: of the operator); and if
the defaults do not suit, `hosts` (comma-separated `host`, `host:port`, `*.host`), `ca_file`, `timeout`
(seconds for a whole send), `connections`.
"""

import base64
import binascii
import hashlib
import json
import os
import ssl
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from py_vapid import Vapid02, VapidException
from yarl import URL

from connectors._answer import Answer, NoAnswer
from connectors._ece import SALT, Receiver, encrypted, new_key, receiver
from connectors._hosts import BadHosts, Hosts
from connectors._options import Options, utc_now
from connectors._post import Poster
from connectors._retry_after import retry_after
from connectors.contract import (
    SILENT,
    Accepted,
    BadOptions,
    ChannelFault,
    InvalidAddress,
    Message,
    Outcome,
    Permanent,
    Throttled,
    Transient,
)

# The push services of Chrome and Edge on Android, Firefox, Safari, and Edge on Windows.
PUSH_SERVICES = (
    "fcm.googleapis.com",
    "updates.push.services.mozilla.com",
    "*.push.apple.com",
    "*.notify.windows.com",
)
_ENCODE = json.JSONEncoder(
    ensure_ascii=False, separators=(",", ":")
).encode  # `dumps` would make it each time
MAX_PAYLOAD = 3993  # bytes: services take 4096 encrypted (RFC 8291, 4), of which 103 are not ours
_LONGEST_TTL = timedelta(days=28)  # FCM refuses more
_TOKEN_LIFE = timedelta(hours=12)  # RFC 8292 allows 24 h; half leaves room for a wrong clock
_TOKEN_MARGIN = timedelta(hours=1)
_MAX_ORIGINS = 1000  # tokens kept: `*.notify.windows.com` is a family without end
_REFUSALS = 5  # so many different subscriptions refused and none accepted: the key is wrong, not they
_MISMATCH = ("mismatch", "do not correspond", "does not match")  # Apple and Mozilla, FCM
_BAD_TOKEN = ("jwt", "vapid", "unauthorizedregistration")


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """What is POSTed, before encryption."""

    url: URL
    to: Receiver
    headers: Mapping[str, str]
    payload: bytes


def to_request(message: Message, hosts: Hosts) -> Request | Outcome:
    """The request for a message, or why there can be none."""
    subscription = _subscription(message.address)
    if subscription is None:
        return InvalidAddress(reason="the address is no Web Push subscription", code="malformed")
    url, to = subscription
    if not hosts.allow(url):
        # Not InvalidAddress: a host missing in our own list must not cost the user his subscription.
        return Permanent(reason="the endpoint's host is not in option 'hosts'", code="host-not-allowed")
    payload = _payload(message)
    if len(payload) > MAX_PAYLOAD:
        return Permanent(
            reason=f"the payload has {len(payload)} bytes; at most {MAX_PAYLOAD} fit", code="payload-too-big"
        )
    return Request(url=url, to=to, headers=_headers(message), payload=payload)


def _subscription(address: str) -> tuple[URL, Receiver] | None:
    """Endpoint and keys of a subscription as browsers serialise it; None when it is none."""
    try:
        found = json.loads(address)
        endpoint, p256dh, auth = found["endpoint"], found["keys"]["p256dh"], found["keys"]["auth"]
        to = receiver(_from_base64url(p256dh), _from_base64url(auth))
        url = URL(endpoint, encoded=True)
        usable = url.scheme == "https" and bool(url.host) and url.user is None and url.password is None
        if not usable or not endpoint.isascii() or not endpoint.isprintable() or " " in endpoint:
            return None
    except (ValueError, TypeError, KeyError, RecursionError):
        return None
    return url, to


def _from_base64url(text: str) -> bytes:
    """Strictly: what is no base64 is not skipped. Raises ValueError or TypeError."""
    try:
        return base64.b64decode(text + "=" * (-len(text) % 4), altchars="-_", validate=True)
    except binascii.Error as error:
        raise ValueError("no base64url") from error


def _payload(message: Message) -> bytes:
    content = message.content
    fields = {
        "title": content.title,
        "body": content.text,
        "link": content.link,
        "image": content.image,
        "badge": content.badge,
        "silent": True if content.sound == SILENT else None,
        "id": message.delivery_id,
    }
    present = {name: value for name, value in fields.items() if value is not None}
    return _ENCODE(present).encode(errors="replace")


def _headers(message: Message) -> dict[str, str]:
    lifetime = max(timedelta(), min(message.time_to_live, _LONGEST_TTL))
    return {
        "TTL": str(int(lifetime.total_seconds())),
        "Urgency": "high" if message.urgent else "normal",
        "Topic": topic(message.collapse_key or message.delivery_id),
        "Content-Encoding": "aes128gcm",
        "Content-Type": "application/octet-stream",
    }


def topic(key: str) -> str:
    """32 base64url characters, the most that RFC 8030 (5.4) allows: a later push replaces a pending one."""
    return base64.urlsafe_b64encode(hashlib.sha256(key.encode(errors="replace")).digest()[:24]).decode()


def to_outcome(answer: Answer, now: datetime) -> Outcome | None:
    """What an answer means; None when the service does not know our key for this subscription.

    RFC 8030, and where it leaves a choice, what the public services answer.
    """
    code, wait = str(answer.status), retry_after(answer.retry_after, now)
    match answer.status:
        case 200 | 201 | 202:
            return Accepted(provider_id=answer.location)
        case 400 | 401 | 403:
            return _refusal(answer.status, answer.body.lower())
        case 404 | 410:
            return InvalidAddress(reason="the subscription is gone", code=code)
        case 406 | 429:  # 406: the throttle of Windows' service
            return Throttled(reason="the push service asks for less", code=code, retry_after=wait)
        case status if status == 408 or status >= 500:
            return Transient(reason="the push service is not available", code=code, retry_after=wait)
        case _:
            return Permanent(reason="the push service refuses the request", code=code)


def _refusal(status: int, body: str) -> Outcome | None:
    """400, 401 and 403: the request, our token, or our key for this one subscription (None)."""
    if any(sign in body for sign in _MISMATCH):
        return None
    if status == 401 or any(sign in body for sign in _BAD_TOKEN):
        reason = "the push service refuses our token; check vapid_key, subject and this machine's clock"
        return ChannelFault(reason=reason, code=str(status))
    if status == 403:
        return None
    return Permanent(reason="the push service refuses the request", code=str(status))


class Standing:
    """Whether a push service has ever accepted our key, so that one stranger is told from a wrong key.

    A refused key means that the subscription was made for another one. When that is one of many, the
    subscription is dead; when it is all of them, our key is wrong and no address may be dropped for it.
    """

    def __init__(self) -> None:
        self._proven: set[str] = set()
        self._refused: dict[str, set[str]] = {}

    def accepted(self, origin: str) -> None:
        """This service knows our key."""
        if origin not in self._proven and len(self._proven) < _MAX_ORIGINS:
            self._proven.add(origin)
            self._refused.pop(origin, None)

    def refused(self, origin: str, endpoint: str, code: str) -> Outcome:
        """What a refusal of our key means for this subscription."""
        if origin in self._proven:
            return InvalidAddress(reason="the subscription was made for another vapid_key", code=code)
        if len(self._refused) >= _MAX_ORIGINS:
            self._refused.clear()
        strangers = self._refused.setdefault(origin, set())
        if len(strangers) < _REFUSALS:
            strangers.add(hashlib.sha256(endpoint.encode()).hexdigest())
        if len(strangers) < _REFUSALS:
            return Transient(reason="the push service does not know our key for this subscription", code=code)
        return ChannelFault(
            reason=f"the push service has refused our key for {_REFUSALS} subscriptions and accepted it for "
            "none; set vapid_key to the key that the subscriptions were made with",
            code=code,
        )


class Tokens:
    """One signed Authorization header for each push service, made anew before it expires."""

    def __init__(self, vapid: Vapid02, subject: str) -> None:
        self._vapid = vapid
        self._subject = subject
        self._headers: dict[str, tuple[datetime, str]] = {}

    def header(self, origin: str, now: datetime) -> str:
        """The header for a service. Raises VapidException when subject or origin cannot be signed."""
        good_until, header = self._headers.get(origin, (now, ""))
        if good_until <= now:
            expires = now + _TOKEN_LIFE
            claims = {"sub": self._subject, "aud": origin, "exp": int(expires.timestamp())}
            header = self._vapid.sign(claims)["Authorization"]
            if len(self._headers) >= _MAX_ORIGINS:
                self._headers.clear()
            self._headers[origin] = (expires - _TOKEN_MARGIN, header)
        return header


class WebPush:
    """The connector. Make it inside the running event loop."""

    name = "webpush"

    def __init__(
        self, *, tokens: Tokens, hosts: Hosts, poster: Poster, capacity: int, clock: Callable[[], datetime]
    ) -> None:
        self._tokens = tokens
        self._hosts = hosts
        self._poster = poster
        self._clock = clock
        self.capacity = capacity
        self._standing = Standing()

    async def send(self, message: Message) -> Outcome:
        """POST once."""
        request = to_request(message, self._hosts)
        if not isinstance(request, Request):
            return request
        origin = str(request.url.origin())
        headers = {**request.headers, "Authorization": self._tokens.header(origin, self._clock())}
        body = encrypted(request.to, request.payload, new_key(), os.urandom(SALT))
        try:
            answer = await self._poster.post(request.url, body, headers)
        except NoAnswer as error:
            if error.fate == "private":
                reason = "the endpoint's host leads into a private network"
                return Permanent(reason=reason, code="private-address")
            return error.outcome()
        return self._judge(request, origin, answer)

    def _judge(self, request: Request, origin: str, answer: Answer) -> Outcome:
        outcome = to_outcome(answer, self._clock())
        if outcome is None:
            return self._standing.refused(origin, str(request.url), str(answer.status))
        if isinstance(outcome, Accepted):
            self._standing.accepted(origin)
        return outcome

    async def aclose(self) -> None:
        """Let what is in flight finish, then close every connection."""
        await self._poster.aclose()


def create(options: Mapping[str, str]) -> WebPush:
    """The connector for these options. Raises BadOptions."""
    given = Options("webpush", options)
    key_file, subject = given.needed_file("vapid_key"), given.text("subject")
    ca_file = given.file("ca_file")
    try:
        listed = given.text("hosts", "")
        hosts = Hosts.parse(listed) if listed.strip() else Hosts.public(*PUSH_SERVICES)
    except BadHosts as error:
        raise BadOptions(f"webpush: option 'hosts': {error}") from error
    timeout, connections = given.seconds("timeout", 10.0), given.number("connections", 200)
    given.done()
    return WebPush(
        tokens=_tokens(key_file, subject),
        hosts=hosts,
        poster=Poster(
            tls=ssl.create_default_context(cafile=ca_file),
            timeout=timeout,
            connections=connections,
            resolver=hosts.resolver(),
        ),
        capacity=connections,
        clock=utc_now,
    )


def _tokens(key_file: Path, subject: str) -> Tokens:
    try:
        key = load_pem_private_key(key_file.read_bytes(), None)
    except (OSError, ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise BadOptions(
            f"webpush: vapid_key {key_file} is no unencrypted PEM private key: {error}"
        ) from error
    if not isinstance(key, ec.EllipticCurvePrivateKey) or not isinstance(key.curve, ec.SECP256R1):
        raise BadOptions(f"webpush: vapid_key {key_file} is no P-256 key, which VAPID asks for")
    tokens = Tokens(Vapid02(key), subject)
    try:
        tokens.header("https://example.com", utc_now())
    except VapidException as error:
        raise BadOptions(f"webpush: subject {subject!r} is neither mailto:... nor https://...") from error
    return tokens
