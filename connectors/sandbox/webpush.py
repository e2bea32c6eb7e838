"""A push service that checks the VAPID token and decrypts what it gets, as a browser would.

A device is named by a seed: `subscription(seed, origin)` is what its browser would have handed over, and
the service finds the private key again from the endpoint's path. Nothing is stored.
The address of a fault and of a received row is the seed.
"""

import base64
import hashlib
import json
from datetime import datetime
from urllib.parse import quote

import http_ece
from aiohttp import web
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from py_vapid import Vapid02

from connectors.sandbox.desk import Answer, Call, Desk
from connectors.sandbox.faults import Fault
from connectors.sandbox.http import HttpServer, respond, serve

_MAX_BODY = 4096  # bytes; RFC 8030, 7.2 lets a service refuse more
_DAY = 24 * 3600  # seconds; RFC 8292, 2 forbids a longer life
_IDENTITY = ("TTL", "Urgency", "Topic")
# The order of P-256, below which a private key lies.
_ORDER = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551


def subscription(seed: str, origin: str) -> str:
    """The subscription JSON of the device with this seed. `origin`: https://127.0.0.1:PORT."""
    point = _device_key(seed).public_key().public_bytes(Encoding.X962, PublicFormat.UncompressedPoint)
    keys = {"p256dh": _base64url(point), "auth": _base64url(_auth(seed))}
    return json.dumps({"endpoint": f"{origin}/push/{quote(seed, safe='')}", "keys": keys})


async def start(desk: Desk, port: int = 0) -> HttpServer:
    """Listen with TLS on 127.0.0.1. Raises OSError when the port is taken."""
    service = _PushService(desk)
    server = await serve([web.post("/push/{seed}", service.push)], port, certs=desk.certs)
    service.origin = f"https://127.0.0.1:{server.port}"
    options = {
        "EVERPOST_CONNECTOR_WEBPUSH_VAPID_KEY": str(desk.certs.vapid_key),
        "EVERPOST_CONNECTOR_WEBPUSH_SUBJECT": "mailto:push@example.com",
        "EVERPOST_CONNECTOR_WEBPUSH_HOSTS": f"127.0.0.1:{server.port}",
        "EVERPOST_CONNECTOR_WEBPUSH_CA_FILE": str(desk.certs.ca),
    }
    return HttpServer(runner=server.runner, port=server.port, options=options)


class _PushService:
    def __init__(self, desk: Desk) -> None:
        self._desk = desk
        self._key = desk.certs.vapid_public()
        self.origin = ""

    async def push(self, request: web.Request) -> web.Response:
        seed, body = request.match_info["seed"], await request.read()
        refusal, content = self._read(request, seed, body)
        call = Call(
            provider="webpush",
            delivery_id=content.pop("id", ""),
            address=seed,
            content=content,
            identity={name.lower(): request.headers[name] for name in _IDENTITY if name in request.headers},
        )
        usual = refusal or Answer(
            status=201, headers={"Location": f"{self.origin}/messages/{call.delivery_id}"}, accepted=True
        )
        return await respond(request, self._desk, call, lambda fault: _answer(usual, fault))

    def _read(self, request: web.Request, seed: str, body: bytes) -> tuple[Answer | None, dict[str, str]]:
        """Why the request is refused, if it is, and the decrypted payload."""
        refusal = token_refusal(
            request.headers.get("Authorization", ""), self.origin, self._key, self._desk.clock()
        )
        if refusal is None and not request.headers.get("TTL", "").isdigit():
            refusal = Answer(status=400, reason="MissingTTL")
        if refusal is None and len(body) > _MAX_BODY:
            refusal = Answer(status=413, reason="PayloadTooLarge")
        if refusal is None and len(request.headers.get("Topic", "")) > 32:
            refusal = Answer(status=400, reason="BadTopic")
        try:
            return refusal, decrypt(seed, body)
        except (http_ece.ECEException, ValueError):
            return refusal or Answer(status=400, reason="BadEncryption"), {}


def _answer(usual: Answer, fault: Fault | None) -> Answer:
    if fault is None or fault.kind not in ("status", "dead"):
        return usual
    if fault.kind == "dead":
        return Answer(status=410, reason="Gone", body='{"reason":"Unregistered"}')
    return Answer(status=fault.status, reason=fault.reason, body=json.dumps({"reason": fault.reason}))


def decrypt(seed: str, body: bytes) -> dict[str, str]:
    """What the device with this seed reads. Raises ECEException or ValueError when it can't."""
    plain = http_ece.decrypt(
        body, private_key=_device_key(seed), auth_secret=_auth(seed), version="aes128gcm"
    )
    payload = json.loads(plain)
    payload["text"] = payload.pop("body", "")  # named as in `Content`, like every provider's rows
    return payload


def token_refusal(header: str, origin: str, key: str, now: datetime) -> Answer | None:
    """Why a push service refuses this Authorization header (RFC 8292); None when it does not."""
    try:
        scheme, _, parameters = header.partition(" ")
        found = dict(part.strip().split("=", 1) for part in parameters.split(","))
        token, public = found["t"], found["k"]
        head, claims = (_json_part(token, index) for index in (0, 1))
        signed = (
            scheme == "vapid" and head["alg"] == "ES256" and Vapid02.verify(f"vapid t={token},k={public}")
        )
        left = int(str(claims["exp"])) - now.timestamp()
    except (ValueError, KeyError, IndexError):
        return Answer(status=401, reason="MissingVapid")
    if not signed or claims.get("aud") != origin or not 0 < left <= _DAY or "sub" not in claims:
        return Answer(status=403, reason="BadJwtToken", body='{"reason":"BadJwtToken"}')
    if public != key:
        return Answer(status=403, reason="VapidPkHashMismatch", body='{"reason":"VapidPkHashMismatch"}')
    return None


def _json_part(token: str, index: int) -> dict[str, object]:
    part = token.split(".")[index]
    return json.loads(base64.urlsafe_b64decode(part + "=" * (-len(part) % 4)))


def _device_key(seed: str) -> ec.EllipticCurvePrivateKey:
    number = int.from_bytes(hashlib.sha256(b"key " + seed.encode()).digest()) % (_ORDER - 1) + 1
    return ec.derive_private_key(number, ec.SECP256R1())


def _auth(seed: str) -> bytes:
    return hashlib.sha256(b"auth " + seed.encode()).digest()[:16]


def _base64url(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()
