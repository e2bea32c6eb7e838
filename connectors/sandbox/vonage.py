"""Vonage's SMS API: POST /sms/json with basic authentication, answers in its shape and statuses.

The address of a fault and of a received row is the number in E.164, with its plus.
A fault `status` with an HTTP status of 200 puts the first word of its `reason` into the body, for example
"9 Quota exceeded"; any other status is an HTTP error. Whatever it has taken is delivered at once, and told by a
signed receipt to the `callback` of the request.
"""

import base64
import hashlib
import hmac
import json
from math import ceil

from aiohttp import web

from connectors.sandbox.callbacks import Callbacks
from connectors.sandbox.desk import Answer, Call, Desk, takes
from connectors.sandbox.faults import Fault
from connectors.sandbox.http import HttpServer, respond, serve

_KEY, _SECRET = "sandbox", "sandbox-secret"
_SIGNATURE = "sandbox-signature"
_BASIC = "Basic " + base64.b64encode(f"{_KEY}:{_SECRET}".encode()).decode()
_JSON = {"Content-Type": "application/json"}
_NEEDED = ("to", "from", "text")
# Characters in one SMS, and in each part of a longer one (3GPP TS 23.040, 7-bit and UCS-2).
_SIZES = {"text": (160, 153), "unicode": (70, 67)}


async def start(desk: Desk, port: int = 0) -> HttpServer:
    """Listen with TLS on 127.0.0.1. Raises OSError when the port is taken."""
    api = _Api(desk)
    server = await serve([web.post("/sms/json", api.sms)], port, certs=desk.certs)
    options = {
        "EVERPOST_CONNECTOR_VONAGE_HOST": "127.0.0.1",
        "EVERPOST_CONNECTOR_VONAGE_PORT": str(server.port),
        "EVERPOST_CONNECTOR_VONAGE_CA_FILE": str(desk.certs.ca),
        "EVERPOST_CONNECTOR_VONAGE_API_KEY": _KEY,
        "EVERPOST_CONNECTOR_VONAGE_API_SECRET": _SECRET,
        "EVERPOST_CONNECTOR_VONAGE_SENDER": "Everpost",
        "EVERPOST_CONNECTOR_VONAGE_SIGNATURE_SECRET": _SIGNATURE,
    }
    return HttpServer(runner=server.runner, port=server.port, options=options, callbacks=api.callbacks)


class _Api:
    def __init__(self, desk: Desk) -> None:
        self._desk = desk
        self.callbacks = Callbacks()

    async def sms(self, request: web.Request) -> web.Response:
        form = {name: str(value) for name, value in (await request.post()).items()}
        call = Call(
            provider="vonage",
            delivery_id=form.get("client-ref", ""),
            address=f"+{form.get('to', '')}",
            content={name: form[name] for name in ("text", "from", "type") if name in form},
            identity={"client-ref": form["client-ref"]} if "client-ref" in form else {},
        )
        usual = _usual(form, request.headers.get("Authorization", ""))
        return await respond(request, self._desk, call, lambda fault: self._answer(form, usual, fault))

    def _answer(self, form: dict[str, str], usual: Answer, fault: Fault | None) -> Answer:
        answer = _answer(form, usual, fault)
        if takes(answer, fault) and "callback" in form:
            self.callbacks.post(form["callback"], receipt(form, self._desk.clock().timestamp()), {})
        return answer


def _usual(form: dict[str, str], authorization: str) -> Answer:
    """What Vonage says to this form."""
    if authorization != _BASIC:
        return Answer(status=401, reason="Unauthorized", body='{"title":"Unauthorized"}')
    missing = [name for name in _NEEDED if not form.get(name)]
    if missing:
        return _refused(form, f"2 Missing {missing[0]} param")
    if not form["to"].isdigit():
        return _refused(form, "6 Invalid message")
    return _accepted(form)


def _answer(form: dict[str, str], usual: Answer, fault: Fault | None) -> Answer:
    if fault is None or fault.kind not in ("status", "dead"):
        return usual
    if fault.kind == "dead":
        return _refused(form, "6 Unroutable message - rejected")
    if fault.status == 200:
        return _refused(form, fault.reason or "5 Internal Error")
    return Answer(status=fault.status, reason=fault.reason, body=json.dumps({"title": fault.reason}))


def parts(text: str, type_: str) -> int:
    """How many SMS a text needs."""
    single, each = _SIZES.get(type_, _SIZES["text"])
    length = len(text.encode("utf-16-le")) // 2 if type_ == "unicode" else len(text)
    return 1 if length <= single else ceil(length / each)


def _stem(form: dict[str, str]) -> str:
    return hashlib.sha256(form.get("client-ref", "").encode()).hexdigest()[:14].upper()


def _accepted(form: dict[str, str]) -> Answer:
    count = parts(form["text"], form.get("type", "text"))
    stem = _stem(form)
    messages = [
        {
            "to": form["to"],
            "message-id": f"{stem}{number:02X}",
            "status": "0",
            "remaining-balance": "15.53590000",
            "message-price": "0.03330000",
            "network": "12345",
            "client-ref": form.get("client-ref", ""),
        }
        for number in range(count)
    ]
    body = json.dumps({"message-count": str(count), "messages": messages})
    return Answer(status=200, reason="status 0", body=body, headers=_JSON, accepted=True)


def _refused(form: dict[str, str], words: str) -> Answer:
    status, _, text = words.partition(" ")
    message = {"status": status, "error-text": text, "client-ref": form.get("client-ref", "")}
    body = json.dumps({"message-count": "1", "messages": [message]})
    return Answer(status=200, reason=f"status {status}", body=body, headers=_JSON)


def receipt(form: dict[str, str], now: float, status: str = "delivered", code: str = "0") -> dict[str, str]:
    """The delivery receipt of an SMS, signed with HMAC-SHA-256."""
    found = {
        "msisdn": form["to"],
        "to": form["from"],
        "messageId": _stem(form) + "00",
        "status": status,
        "err-code": code,
        "client-ref": form.get("client-ref", ""),
        "timestamp": str(int(now)),
    }
    clean = ((name, value.replace("&", "_").replace("=", "_")) for name, value in sorted(found.items()))
    text = "".join(f"&{name}={value}" for name, value in clean)
    return found | {"sig": hmac.new(_SIGNATURE.encode(), text.encode(), "sha256").hexdigest()}
