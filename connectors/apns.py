"""Apple Push Notification service: one message, one request over HTTP/2.

The sources of every rule are Apple's "Sending notification requests to APNs" and "Handling
notification responses from APNs". Options: `key_path` (the .p8 file), `key_id`, `team_id`, `topic`
(the app's bundle id), and optionally `host`, `port`, `ca_file`, `timeout` (seconds), `connections`.
"""

import hashlib
import json
import re
import ssl
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import jwt
import orjson
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from connectors._apns_h2 import MAX_BODY, Answer, Headers, Lost, NotSent
from connectors._apns_pool import Pool, Untrusted
from connectors._options import Options, utc_now
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
    Uncertain,
)

_TOKEN = re.compile(r"(?:[0-9a-fA-F]{2}){16,100}")  # hexadecimal; Apple promises no fixed length
_MAX_COLLAPSE_ID = 64  # bytes

# Apple takes a provider token from 20 to 60 minutes, and refuses a sender that changes it more often.
_REFRESH_AFTER = timedelta(minutes=40)
_LEAST_AGE = timedelta(minutes=20)

Refusal = type[Permanent | InvalidAddress | Transient | Throttled | Uncertain | ChannelFault]

# What Apple's reasons mean where it is not what their status means.
_BY_REASON: Mapping[str, Refusal] = {
    "BadDeviceToken": InvalidAddress,  # 400
    "DeviceTokenNotForTopic": InvalidAddress,  # 400
    "IdleTimeout": Transient,  # 400
}
_BY_STATUS: Mapping[int, Refusal] = {403: ChannelFault, 410: InvalidAddress, 429: Throttled}
_BY_CLASS: Mapping[int, Refusal] = {4: Permanent, 5: Transient}  # the first digit; other: no HTTP we know


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """What goes on the wire, without the provider token."""

    headers: Headers
    body: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class ProviderToken:
    """A signed provider token."""

    header: str  # value of `authorization`
    issued_at: datetime


def to_request(
    message: Message, *, host: str, topic: str, now: datetime
) -> Request | Permanent | InvalidAddress:
    """The request for a message, or why none can be made."""
    if not _TOKEN.fullmatch(message.address):
        return InvalidAddress(reason="the device token is not hexadecimal", code="BadDeviceToken")
    try:
        body = orjson.dumps(_payload(message))
    except TypeError:
        return Permanent(reason="the words hold a lone surrogate, which no encoding has", code="text")
    if len(body) > MAX_BODY:
        return Permanent(
            reason=f"the payload has {len(body)} bytes, APNs takes {MAX_BODY}: shorten the template",
            code="PayloadTooLarge",
        )
    headers = [
        (":method", "POST"),
        (":scheme", "https"),
        (":authority", host),
        (":path", f"/3/device/{message.address}"),
        ("apns-id", message.delivery_id),
        ("apns-topic", topic),
        ("apns-push-type", "alert"),
        ("apns-priority", "10" if message.urgent else "5"),
        ("apns-expiration", str(_expiration(message.time_to_live, now))),
    ]
    if message.collapse_key:
        headers.append(("apns-collapse-id", _collapse_id(message.collapse_key)))
    return Request(headers=headers, body=body)


def _payload(message: Message) -> Mapping[str, Any]:
    content = message.content
    alert = {"title": content.title, "body": content.text}
    aps: dict[str, Any] = {"alert": {key: value for key, value in alert.items() if value}}
    if content.sound != SILENT:
        aps["sound"] = content.sound or "default"
    if content.badge is not None:
        aps["badge"] = content.badge
    if content.image:
        aps["mutable-content"] = 1  # lets the app's extension fetch the image
    own = {"event_id": message.event_id, "link": content.link, "image": content.image}
    return {"aps": aps} | {key: value for key, value in own.items() if value}


def _expiration(time_to_live: timedelta, now: datetime) -> int:
    """Seconds of the Unix epoch; 0, try once and store nothing, when no time is left."""
    return int((now + time_to_live).timestamp()) if time_to_live > timedelta(0) else 0


def _collapse_id(key: str) -> str:
    """The key, or its digest when it is too long or holds what a header cannot."""
    if len(key) <= _MAX_COLLAPSE_ID and key.isascii() and key.isprintable() and key == key.strip():
        return key
    return hashlib.sha256(key.encode()).hexdigest()


def to_outcome(
    status: int,
    reason: str,
    timestamp: datetime | None = None,
    *,
    registered_at: datetime | None = None,
    token_age: timedelta = _REFRESH_AFTER,
) -> Outcome:
    """What an answer means. `timestamp` comes with a 410: when the token was last known to be dead;
    `token_age` is that of the provider token in the request.
    """
    if status == 200:
        return Accepted()
    words = f"APNs answered {status} {reason}".rstrip()
    code = reason or str(status)
    if status == 410 and timestamp and registered_at and timestamp <= registered_at:
        return Permanent(reason=f"{words}, but the device has registered since: address kept", code=code)
    if reason == "ExpiredProviderToken" and token_age >= _LEAST_AGE:
        return Transient(reason=f"{words}: the next request carries a new token", code=code)
    kind = _BY_REASON.get(reason) or _BY_STATUS.get(status) or _BY_CLASS.get(status // 100, Uncertain)
    if kind is ChannelFault:
        words = f"{words}: {_fix(reason)}"
    if kind is InvalidAddress:
        return InvalidAddress(reason=words, code=code, since=timestamp)
    return kind(reason=words, code=code)


def _fix(reason: str) -> str:
    """What an operator does about a 403."""
    if reason == "ExpiredProviderToken":
        return "the token is new, so this machine's clock is wrong: synchronise it"
    return "check key_path, key_id, team_id, topic and host (production or development)"


class Signer:
    """The provider token of this process: signed once, renewed early."""

    def __init__(self, *, key: ec.EllipticCurvePrivateKey, key_id: str, team_id: str) -> None:
        self._key = key
        self._key_id = key_id
        self._team_id = team_id
        self._token: ProviderToken | None = None

    def token(self, now: datetime) -> ProviderToken:
        """The token for a request at `now`."""
        token = self._token
        # A clock that was set back makes the age negative: that token has never been valid.
        if token is None or not timedelta(0) <= now - token.issued_at < _REFRESH_AFTER:
            token = self._token = self._sign(now)
        return token

    def refused(self, token: ProviderToken, now: datetime) -> None:
        """APNs called it expired: drop it, unless it is too young to be changed or gone already."""
        if token is self._token and now - token.issued_at >= _LEAST_AGE:
            self._token = None

    def _sign(self, now: datetime) -> ProviderToken:
        claims = {"iss": self._team_id, "iat": int(now.timestamp())}
        signed = jwt.encode(claims, self._key, algorithm="ES256", headers={"kid": self._key_id})
        return ProviderToken(header=f"bearer {signed}", issued_at=now)


class Apns:
    """The connector. Make it inside the running event loop."""

    name = "apns"
    capacity = 1000  # streams of one connection to Apple; a server that allows fewer makes sends wait

    def __init__(
        self, *, pool: Pool, signer: Signer, host: str, topic: str, clock: Callable[[], datetime]
    ) -> None:
        self._pool = pool
        self._signer = signer
        self._host = host
        self._topic = topic
        self._clock = clock

    async def send(self, message: Message) -> Outcome:
        """One request; see the contract."""
        now = self._clock()
        request = to_request(message, host=self._host, topic=self._topic, now=now)
        if not isinstance(request, Request):
            return request
        token = self._signer.token(now)
        try:
            answer = await self._pool.post([*request.headers, ("authorization", token.header)], request.body)
        except NotSent as error:
            return Transient(reason=str(error), code="NotSent")
        except Lost as error:
            return Uncertain(reason=str(error), code="Lost")
        except Untrusted as error:
            return ChannelFault(reason=f"{error}: check host, port and ca_file", code="Untrusted")
        reason, timestamp = _read(answer)
        if reason == "ExpiredProviderToken":
            self._signer.refused(token, now)
        return to_outcome(
            answer.status,
            reason,
            timestamp,
            registered_at=message.registered_at,
            token_age=now - token.issued_at,
        )

    async def aclose(self) -> None:
        """Finish what is in flight and close every connection."""
        await self._pool.aclose()


def _read(answer: Answer) -> tuple[str, datetime | None]:
    """Reason and timestamp in the body; empty and None when it holds none."""
    if not answer.body:  # an error made and caught is a tenth of an answer's time
        return "", None
    try:
        body = json.loads(answer.body)
    except ValueError:  # no JSON, or no UTF-8
        return "", None
    if not isinstance(body, dict):
        return "", None
    reason, timestamp = body.get("reason"), body.get("timestamp")
    return str(reason or ""), _time(timestamp)


def _time(milliseconds: object) -> datetime | None:
    """A time from milliseconds of the Unix epoch; None for anything that is none."""
    if not isinstance(milliseconds, int) or not 0 <= milliseconds < 2**48:
        return None
    return datetime.fromtimestamp(milliseconds / 1000, UTC)


def create(options: Mapping[str, str], *, clock: Callable[[], datetime] = utc_now) -> Apns:
    """The connector for these options. Raises BadOptions."""
    read = Options("apns", options)
    host = read.text("host", "api.push.apple.com")
    port = read.number("port", 443)
    topic = read.text("topic")
    tls = _tls(read.file("ca_file"))
    key = _key(read.needed_file("key_path"))
    signer = Signer(key=key, key_id=read.text("key_id"), team_id=read.text("team_id"))
    seconds, connections = read.seconds("timeout", 10.0), read.number("connections", 2)
    read.done()
    pool = Pool(host=host, port=port, tls=tls, connections=connections, seconds=seconds)
    return Apns(pool=pool, signer=signer, host=host, topic=topic, clock=clock)


def _tls(ca_file: Path | None) -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=ca_file)
    context.set_alpn_protocols(["h2"])
    return context


def _key(file: Path) -> ec.EllipticCurvePrivateKey:
    try:
        key = serialization.load_pem_private_key(file.read_bytes(), password=None)
    except (OSError, ValueError, TypeError, UnsupportedAlgorithm) as error:  # TypeError: it wants a password
        raise BadOptions(f"apns: option 'key_path': {file} is no private key: {error}") from error
    if not isinstance(key, ec.EllipticCurvePrivateKey) or not isinstance(key.curve, ec.SECP256R1):
        raise BadOptions(f"apns: option 'key_path': {file} is no ES256 key; use the .p8 file from Apple")
    return key
