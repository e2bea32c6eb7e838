"""A receiver of webhooks that checks what the Standard Webhooks specification asks a receiver to check.

It stands for a company's own gateway and for a user's endpoint. The address of a fault and of a received
row is the `to` of the payload, or for `/hook/NAME` the NAME.
"""

import base64
import hmac
import json
from collections.abc import Mapping
from typing import Any

from aiohttp import web

from connectors.sandbox.desk import Answer, Call, Desk
from connectors.sandbox.faults import Fault
from connectors.sandbox.http import HttpServer, respond, serve

SECRET = "whsec_" + base64.b64encode(b"everpost's local webhook key").decode()
_TOLERANCE = 300  # seconds between the sender's clock and ours


async def start(desk: Desk, port: int = 0) -> HttpServer:
    """Listen with TLS on 127.0.0.1. Raises OSError when the port is taken."""
    receiver = _Receiver(desk)
    routes = [web.post("/hook", receiver.take), web.post("/hook/{name}", receiver.take)]
    server = await serve(routes, port, certs=desk.certs)
    prefix = "EVERPOST_CONNECTOR_WEBHOOK_"
    options = {
        prefix + "URL": f"https://127.0.0.1:{server.port}/hook",
        prefix + "CA_FILE": str(desk.certs.ca),
        prefix + "SECRETS": SECRET,
    }
    return HttpServer(runner=server.runner, port=server.port, options=options)


class _Receiver:
    def __init__(self, desk: Desk) -> None:
        self._desk = desk

    async def take(self, request: web.Request) -> web.Response:
        body = await request.read()
        data = _data(body)
        found = {name.lower(): value for name, value in request.headers.items()}
        identity = {name: value for name, value in found.items() if name.startswith("webhook-")}
        call = Call(
            provider="webhook",
            delivery_id=request.headers.get("webhook-id", ""),
            address=request.match_info.get("name") or str(data.get("to", "")),
            content={name: str(value) for name, value in data.items()},
            identity=identity,
        )
        usual = self._refusal(request.headers, body) or Answer(status=204, accepted=True)
        return await respond(request, self._desk, call, lambda fault: _answer(usual, fault))

    def _refusal(self, headers: Mapping[str, str], body: bytes) -> Answer | None:
        """Why the webhook is not believed; None when it is."""
        identity, stamp = headers.get("webhook-id", ""), headers.get("webhook-timestamp", "")
        if not stamp.isdigit() or abs(int(stamp) - self._desk.clock().timestamp()) > _TOLERANCE:
            return Answer(status=401, reason="BadTimestamp")
        key = base64.b64decode(SECRET.removeprefix("whsec_"))
        digest = hmac.digest(key, f"{identity}.{stamp}.".encode() + body, "sha256")
        expected = "v1," + base64.b64encode(digest).decode()
        given = headers.get("webhook-signature", "").split()
        if not any(hmac.compare_digest(expected, one) for one in given):
            return Answer(status=401, reason="BadSignature")
        return None if _data(body) else Answer(status=400, reason="BadPayload")


def _data(body: bytes) -> dict[str, Any]:
    """The payload's `data`; empty when it is none."""
    try:
        payload = json.loads(body)
    except ValueError:
        return {}
    data = payload.get("data") if isinstance(payload, dict) else None
    return data if isinstance(data, dict) else {}


def _answer(usual: Answer, fault: Fault | None) -> Answer:
    if fault is None or fault.kind not in ("status", "dead"):
        return usual
    if fault.kind == "dead":
        return Answer(status=410, reason="Gone")
    return Answer(status=fault.status, reason=fault.reason)
