"""A local Firebase Cloud Messaging: Google's OAuth token endpoint and `messages:send` of HTTP v1.

The token endpoint checks the signed assertion (RFC 7523) as Google does. Its faults go by the provider
name `fcm-oauth`; only messages are recorded.
"""

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

import jwt
from aiohttp import web
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from connectors.sandbox.desk import Answer, Call, Desk
from connectors.sandbox.faults import Fault
from connectors.sandbox.http import HttpServer, react, respond, serve

PROJECT = "everpost-demo"
EMAIL = f"sender@{PROJECT}.iam.gserviceaccount.com"
SCOPE = "https://www.googleapis.com/auth/firebase.messaging"
_GRANT = "urn:ietf:params:oauth:grant-type:jwt-bearer"
_AUDIENCE = "https://oauth2.googleapis.com/token"  # google-auth writes this, wherever it posts to
_LIFE = timedelta(hours=1)  # of an access token, and the longest of an assertion
_CLOCKS = timedelta(minutes=5)  # that two clocks may differ
_TOKEN = re.compile(r"[A-Za-z0-9_:.%-]{16,4096}")
_MAX_BODY = 4096  # bytes of notification and data

_FCM_ERROR = "type.googleapis.com/google.firebase.fcm.v1.FcmError"
_BAD_REQUEST = "type.googleapis.com/google.rpc.BadRequest"
# FcmError code and canonical status that usually go with an HTTP status.
_USUAL: Mapping[int, tuple[str, str]] = {
    400: ("INVALID_ARGUMENT", "INVALID_ARGUMENT"),
    401: ("", "UNAUTHENTICATED"),
    403: ("", "PERMISSION_DENIED"),
    404: ("UNREGISTERED", "NOT_FOUND"),
    429: ("QUOTA_EXCEEDED", "RESOURCE_EXHAUSTED"),
    500: ("INTERNAL", "INTERNAL"),
    503: ("UNAVAILABLE", "UNAVAILABLE"),
}


async def start(desk: Desk, port: int = 0) -> HttpServer:
    """Listen with TLS on 127.0.0.1. Raises OSError when the port is taken."""
    service = _Fcm(desk)
    routes = [
        web.post("/token", service.token),
        web.post("/v1/projects/{project}/messages:send", service.send),
    ]
    server = await serve(routes, port, certs=desk.certs)
    service.origin = f"https://127.0.0.1:{server.port}"
    account = desk.certs.directory / "service-account.json"
    account.write_text(json.dumps(service.account(), indent=2))
    prefix = "EVERPOST_CONNECTOR_FCM_"
    options = {
        prefix + "PROJECT_ID": PROJECT,
        prefix + "SERVICE_ACCOUNT_PATH": str(account),
        prefix + "ENDPOINT": service.origin,
        prefix + "CA_FILE": str(desk.certs.ca),
    }
    return replace(server, options=options)


class _Fcm:
    def __init__(self, desk: Desk) -> None:
        self._desk = desk
        self._pem = desk.certs.account_key.read_bytes()
        key = serialization.load_pem_private_key(self._pem, None)
        assert isinstance(key, rsa.RSAPrivateKey), "Certs makes an RSA key"
        self._key = key.public_key()
        # Access tokens are signed, not remembered: they outlive a restart, as Google's do.
        self._secret = hashlib.sha256(self._pem).digest()
        self.origin = ""

    def account(self) -> dict[str, str]:
        """What Google's console would hand out."""
        return {
            "type": "service_account",
            "project_id": PROJECT,
            "private_key_id": "sandbox",
            "private_key": self._pem.decode(),
            "client_email": EMAIL,
            "client_id": "1",
            "token_uri": f"{self.origin}/token",
        }

    async def token(self, request: web.Request) -> web.Response:
        """Exchange a signed assertion for an access token."""
        form = await request.post()
        now = self._desk.clock()
        usual = self._grant(str(form.get("grant_type")), str(form.get("assertion")), now)
        fault = self._desk.meet(Call(provider="fcm-oauth", delivery_id="", address=EMAIL))
        if fault is not None and fault.kind in ("status", "dead"):
            usual = _oauth_error(
                fault.reason or "invalid_grant", fault.status if fault.kind == "status" else 400
            )
        return await react(request, usual, fault)

    def _grant(self, grant_type: str, assertion: str, now: datetime) -> Answer:
        if grant_type != _GRANT:
            return _oauth_error("unsupported_grant_type", 400)
        try:
            claims = jwt.decode(
                assertion,
                self._key,
                algorithms=["RS256"],
                audience=[f"{self.origin}/token", _AUDIENCE],
                issuer=EMAIL,
                options={"require": ["iat", "exp"], "verify_iat": False, "verify_exp": False},
            )
        except jwt.PyJWTError:
            return _oauth_error("invalid_grant", 400)
        lived, left = now.timestamp() - claims["iat"], claims["exp"] - now.timestamp()
        timely = -_CLOCKS.total_seconds() <= lived and 0 < left <= (_LIFE + _CLOCKS).total_seconds()
        if not timely or SCOPE not in str(claims.get("scope")).split():
            return _oauth_error("invalid_grant", 400)
        expires_at = int((now + _LIFE).timestamp())
        access = jwt.encode({"exp": expires_at, "iat": now.timestamp()}, self._secret, algorithm="HS256")
        body = {"access_token": access, "expires_in": int(_LIFE.total_seconds()), "token_type": "Bearer"}
        return Answer(status=200, body=json.dumps(body))

    async def send(self, request: web.Request) -> web.Response:
        """`POST /v1/projects/PROJECT/messages:send`."""
        message = _message(await request.read())
        usual = self._refusal(request, message) or _accepted(message)
        call = _call(message, request.headers.get("Authorization", ""))
        return await respond(request, self._desk, call, lambda fault: _answer(usual, fault))

    def _refusal(self, request: web.Request, message: Mapping[str, Any]) -> Answer | None:
        if not self._knows(request.headers.get("Authorization", ""), self._desk.clock()):
            return _error(401)
        if request.match_info["project"] != PROJECT:
            return _error(403)
        if not message:
            return _error(400)
        if not _TOKEN.fullmatch(str(message.get("token", ""))):
            return _error(400, field="message.token")
        parts = json.dumps([message.get("notification"), message.get("data")], ensure_ascii=False)
        return _error(400, field="message") if len(parts.encode()) > _MAX_BODY else None

    def _knows(self, authorization: str, now: datetime) -> bool:
        try:
            claims = jwt.decode(
                authorization.removeprefix("Bearer "),
                self._secret,
                algorithms=["HS256"],
                options={"verify_exp": False, "verify_iat": False},
            )
        except jwt.PyJWTError:
            return False
        return claims["exp"] > now.timestamp()


def _message(body: bytes) -> dict[str, Any]:
    """The message in a request; empty when it holds none."""
    try:
        request = json.loads(body)
    except ValueError:
        return {}
    message = request.get("message") if isinstance(request, dict) else None
    return message if isinstance(message, dict) else {}


def _call(message: Mapping[str, Any], authorization: str) -> Call:
    notification, data, android = (_part(message, name) for name in ("notification", "data", "android"))
    words = {
        "title": notification.get("title"),
        "text": notification.get("body"),
        "image": notification.get("image"),
    }
    marks = {
        "tag": _part(android, "notification").get("tag"),
        "collapse_key": android.get("collapse_key"),
        "ttl": android.get("ttl"),
        "priority": android.get("priority"),
        "authorization": authorization[-16:],
    }
    content = words | {name: value for name, value in data.items() if name != "delivery_id"}
    return Call(
        provider="fcm",
        delivery_id=str(data.get("delivery_id", "")),
        address=str(message.get("token", "")),
        content={name: str(value) for name, value in content.items() if value},
        identity={name: str(value) for name, value in marks.items() if value},
    )


def _part(whole: Mapping[str, Any], name: str) -> dict[str, Any]:
    part = whole.get(name)
    return part if isinstance(part, dict) else {}


def _accepted(message: Mapping[str, Any]) -> Answer:
    name = f"projects/{PROJECT}/messages/0:{_part(message, 'data').get('delivery_id', '')}"
    return Answer(status=200, body=json.dumps({"name": name}), accepted=True)


def _answer(usual: Answer, fault: Fault | None) -> Answer:
    if fault is None or fault.kind not in ("status", "dead"):
        return usual
    if fault.kind == "dead":
        return _error(404, fault.reason)
    return Answer(status=200) if fault.status == 200 else _error(fault.status, fault.reason)


def _error(status: int, code: str = "", *, field: str = "") -> Answer:
    """Google's form of an error. `field`: what is wrong with the request."""
    usual, canonical = _USUAL.get(status, ("", "UNKNOWN"))
    details: list[dict[str, Any]] = []
    if code or usual:
        details.append({"@type": _FCM_ERROR, "errorCode": code or usual})
    if field:
        details.append(
            {"@type": _BAD_REQUEST, "fieldViolations": [{"field": field, "description": "invalid"}]}
        )
    error = {
        "code": status,
        "message": f"The sandbox says {code or canonical}.",
        "status": canonical,
        "details": details,
    }
    return Answer(status=status, reason=code or usual or canonical, body=json.dumps({"error": error}))


def _oauth_error(error: str, status: int) -> Answer:
    return Answer(status=status, reason=error, body=json.dumps({"error": error}))
