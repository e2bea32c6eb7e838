"""A local Apple Push Notification service: HTTP/2, TLS, provider tokens by ES256, Apple's refusals.

The refusals and their order follow Apple's "Handling notification responses from APNs".
"""

import asyncio
import json
import re
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import jwt
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from connectors.sandbox.certs import Certs
from connectors.sandbox.desk import SILENT, Answer, Call, Desk
from connectors.sandbox.faults import Fault
from connectors.sandbox.h2server import MAX_STREAMS, Exchange, H2Server, serve

KEY_ID = "SANDBOXKEY"
TEAM_ID = "SANDBOXTEA"
TOPIC = "org.everpost.demo"
MAX_PAYLOAD = 4096  # bytes

_PATH = re.compile(r"/3/device/(.*)")
_TOKEN = re.compile(r"(?:[0-9a-fA-F]{2}){16,100}")
_TOKEN_LIFE = timedelta(hours=1)  # of a provider token
_CLOCKS = timedelta(minutes=5)  # that a provider token may come from the future
_PUSH_TYPES = frozenset(
    {
        "alert",
        "background",
        "location",
        "voip",
        "complication",
        "fileprovider",
        "mdm",
        "liveactivity",
        "pushtotalk",
    }
)
_USUAL_REASON: Mapping[int, str] = {
    400: "BadDeviceToken",
    403: "InvalidProviderToken",
    405: "MethodNotAllowed",
    410: "Unregistered",
    413: "PayloadTooLarge",
    429: "TooManyRequests",
    500: "InternalServerError",
    503: "ServiceUnavailable",
}


async def start(desk: Desk, port: int = 0, *, max_streams: int = MAX_STREAMS) -> H2Server:
    """Listen on 127.0.0.1. Raises OSError when the port is taken."""
    server = await serve(_Apns(desk).take, desk.certs, port, max_streams=max_streams)
    prefix = "EVERPOST_CONNECTOR_APNS_"
    server.options = {
        prefix + "HOST": "127.0.0.1",
        prefix + "PORT": str(server.port),
        prefix + "CA_FILE": str(desk.certs.ca),
        prefix + "KEY_PATH": str(desk.certs.apns_key),
        prefix + "KEY_ID": KEY_ID,
        prefix + "TEAM_ID": TEAM_ID,
        prefix + "TOPIC": TOPIC,
    }
    return server


class _Apns:
    """Reads, lets the fault script have its way, writes down, reacts."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk
        self._doorman = _Doorman(desk.certs)

    def take(self, exchange: Exchange) -> None:
        now = self._desk.clock()
        call = _call(exchange)
        answer = self._doorman.refusal(exchange.headers, now)
        if answer is None:
            answer = _refusal(exchange) or Answer(status=200, accepted=True)
        fault = self._desk.meet(call)
        if fault is not None and fault.kind in ("status", "dead"):
            answer = _scripted(fault, now)
        self._desk.record(call, answer, fault)
        if fault is not None and fault.seconds:
            asyncio.get_running_loop().call_later(fault.seconds, _react, exchange, answer, fault)
        else:
            _react(exchange, answer, fault)


def _react(exchange: Exchange, answer: Answer, fault: Fault | None) -> None:
    kind = None if fault is None else fault.kind
    if fault is not None and kind in SILENT:
        if kind == "hang_up":
            exchange.hang_up()
        elif kind == "reset":
            exchange.reset(refused=not fault.processed)
        return
    if kind == "goaway":
        exchange.goaway()
    apns_id = exchange.headers.get("apns-id", "")
    exchange.respond(answer.status, {"apns-id": apns_id} if apns_id else {}, answer.body)


def _call(exchange: Exchange) -> Call:
    headers = exchange.headers
    path = _PATH.fullmatch(headers.get(":path", ""))
    identity = {name: value for name, value in headers.items() if name.startswith("apns-")}
    return Call(
        provider="apns",
        delivery_id=headers.get("apns-id", ""),
        address=path[1] if path else "",
        content=_content(exchange.body),
        identity=identity | {"authorization": headers.get("authorization", "")[-16:]},
    )


def _content(body: bytes) -> dict[str, str]:
    """The words of a payload, as a device would show them; empty when it is none."""
    payload = _json(body)
    alert: Any = payload.pop("aps", {}).get("alert", {})
    shown = (
        {"title": alert.get("title", ""), "text": alert.get("body", "")} if isinstance(alert, dict) else {}
    )
    return {name: str(value) for name, value in (shown | payload).items() if value}


def _json(body: bytes) -> dict[str, Any]:
    try:
        payload = json.loads(body)
    except ValueError:
        return {}
    valid = isinstance(payload, dict) and isinstance(payload.get("aps"), dict)
    return payload if valid else {}


def _no(status: int, reason: str, **more: object) -> Answer:
    return Answer(status=status, reason=reason, body=json.dumps({"reason": reason, **more}))


def _scripted(fault: Fault, now: datetime) -> Answer:
    """Apple's form of what the script wants."""
    if fault.kind == "dead":
        since = int(now.timestamp() * 1000)
        answer = _no(410, fault.reason or "Unregistered", timestamp=since)
    elif fault.status == 200:
        answer = Answer(status=200)
    else:
        answer = _no(fault.status, fault.reason or _USUAL_REASON.get(fault.status, ""))
    if fault.body is None:
        return answer
    return Answer(status=answer.status, reason=answer.reason, body=fault.body)


class _Doorman:
    """Checks provider tokens; each is verified once (about 200 µs) and then remembered."""

    def __init__(self, certs: Certs) -> None:
        key = serialization.load_pem_private_key(certs.apns_key.read_bytes(), None)
        assert isinstance(key, ec.EllipticCurvePrivateKey), "Certs makes an EC key"
        self._key = key.public_key()
        self._issued: dict[str, datetime | None] = {}  # by header; None: not ours

    def refusal(self, headers: Mapping[str, str], now: datetime) -> Answer | None:
        """The 403 for a request without a valid provider token; None when it has one."""
        header = headers.get("authorization", "")
        if not header.lower().startswith("bearer "):
            return _no(403, "MissingProviderToken")
        if header not in self._issued:
            self._issued[header] = self._verify(header[7:])
        issued = self._issued[header]
        if issued is None or issued > now + _CLOCKS:
            return _no(403, "InvalidProviderToken")
        return _no(403, "ExpiredProviderToken") if now - issued > _TOKEN_LIFE else None

    def _verify(self, token: str) -> datetime | None:
        """When the token was issued; None when team, key, algorithm or signature are not right."""
        try:
            if jwt.get_unverified_header(token).get("kid") != KEY_ID:
                return None
            claims = jwt.decode(
                token,
                self._key,
                algorithms=["ES256"],
                issuer=TEAM_ID,
                options={"require": ["iss", "iat"], "verify_iat": False},
            )
            return datetime.fromtimestamp(float(claims["iat"]), UTC)
        except (jwt.PyJWTError, ValueError, OverflowError):
            return None


def _refusal(exchange: Exchange) -> Answer | None:
    """What Apple objects to in a request whose sender is known."""
    headers = exchange.headers
    path = _PATH.fullmatch(headers.get(":path", ""))
    checks = (
        (path is not None, 404, "BadPath"),
        (headers.get(":method") == "POST", 405, "MethodNotAllowed"),
        (not exchange.duplicates, 400, "DuplicateHeaders"),
        (bool(path and path[1]), 400, "MissingDeviceToken"),
        (bool(path and _TOKEN.fullmatch(path[1])), 400, "BadDeviceToken"),
        (bool(headers.get("apns-topic")), 400, "MissingTopic"),
        (headers.get("apns-topic") == TOPIC, 400, "DeviceTokenNotForTopic"),
        (_is_uuid(headers.get("apns-id")), 400, "BadMessageId"),
        (len(headers.get("apns-collapse-id", "").encode()) <= 64, 400, "BadCollapseId"),
        (headers.get("apns-expiration", "0").isdecimal(), 400, "BadExpirationDate"),
        (headers.get("apns-priority", "10") in ("1", "5", "10"), 400, "BadPriority"),
        (headers.get("apns-push-type") in _PUSH_TYPES, 400, "InvalidPushType"),
        (len(exchange.body) <= MAX_PAYLOAD, 413, "PayloadTooLarge"),
        (bool(_json(exchange.body)), 400, "PayloadEmpty"),
    )
    return next((_no(status, reason) for good, status, reason in checks if not good), None)


def _is_uuid(text: str | None) -> bool:
    """In the canonical form; absent is allowed, Apple then makes one."""
    if text is None:
        return True
    try:
        return str(UUID(text)) == text.lower()
    except ValueError:
        return False
