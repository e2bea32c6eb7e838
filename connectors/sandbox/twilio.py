"""Twilio's Messages API: POST Messages.json with basic authentication, answers in its shape and codes.

Twilio knows nothing of a delivery but the query of the status callback, so the delivery id is read there.
A fault `status` puts the first word of its `reason` into the body as Twilio's code, for example
"21610 Attempt to send to unsubscribed recipient". Whatever it has taken is delivered at once, and told by a signed
status callback, if its address is on this machine.
"""

import base64
import hashlib
import hmac
import json
import re
from collections.abc import Mapping

from aiohttp import web
from yarl import URL

from connectors.sandbox.callbacks import Callbacks
from connectors.sandbox.desk import Answer, Call, Desk, takes
from connectors.sandbox.faults import Fault
from connectors.sandbox.http import HttpServer, respond, serve

_ACCOUNT, _TOKEN = "AC" + "5a" * 16, "sandbox-token"
_BASIC = "Basic " + base64.b64encode(f"{_ACCOUNT}:{_TOKEN}".encode()).decode()
_PATH = f"/2010-04-01/Accounts/{_ACCOUNT}/Messages.json"
_SENDER = "+15005550006"  # the one that Twilio's own test credentials take
_JSON = {"Content-Type": "application/json"}
_E164 = re.compile(r"\+[1-9]\d{6,14}")
_MAX_TEXT = 1600  # characters
_MAX_VALIDITY = 36_000  # seconds
_USUAL_CODE: Mapping[int, str] = {
    401: "20003 Authenticate",
    404: "20404 The requested resource was not found",
    429: "20429 Too Many Requests",
    500: "20500 Internal Server Error",
    503: "20503 Service unavailable",
}


async def start(desk: Desk, port: int = 0) -> HttpServer:
    """Listen with TLS on 127.0.0.1. Raises OSError when the port is taken."""
    api = _Api(desk)
    server = await serve([web.post(_PATH, api.create)], port, certs=desk.certs)
    prefix = "EVERPOST_CONNECTOR_TWILIO_"
    options = {
        prefix + "HOST": "127.0.0.1",
        prefix + "PORT": str(server.port),
        prefix + "CA_FILE": str(desk.certs.ca),
        prefix + "ACCOUNT_SID": _ACCOUNT,
        prefix + "AUTH_TOKEN": _TOKEN,
        prefix + "SENDER": _SENDER,
        prefix + "STATUS_CALLBACK": "https://everpost.example/receipts/twilio",
    }
    return HttpServer(runner=server.runner, port=server.port, options=options, callbacks=api.callbacks)


class _Api:
    def __init__(self, desk: Desk) -> None:
        self._desk = desk
        self.callbacks = Callbacks()

    async def create(self, request: web.Request) -> web.Response:
        form = {name: str(value) for name, value in (await request.post()).items()}
        callback = form.get("StatusCallback", "")
        call = Call(
            provider="twilio",
            delivery_id=URL(callback).query.get("delivery_id", ""),
            address=form.get("To", ""),
            content={"text": form.get("Body", ""), "from": form.get("From", "")},
            identity={"status-callback": callback} if callback else {},
        )
        usual = _refusal(form, request.headers.get("Authorization", "")) or _accepted(form, call)
        return await respond(request, self._desk, call, lambda fault: self._answer(form, usual, fault, call))

    def _answer(self, form: Mapping[str, str], usual: Answer, fault: Fault | None, call: Call) -> Answer:
        answer = _answer(usual, fault)
        url = form.get("StatusCallback", "")
        if takes(answer, fault) and url:
            told = status(form, _sid(call))
            self.callbacks.post(url, told, {"X-Twilio-Signature": signature(url, told)})
        return answer


def _refusal(form: Mapping[str, str], authorization: str) -> Answer | None:
    """What Twilio objects to, in its order; None when it takes the SMS."""
    validity = form.get("ValidityPeriod", "1")
    checks = (
        (authorization == _BASIC, 401, "20003 Authenticate"),
        (bool(form.get("To")), 400, "21604 A 'To' phone number is required."),
        (bool(form.get("From") or form.get("MessagingServiceSid")), 400, "21603 A 'From' is required."),
        (bool(form.get("Body")), 400, "21602 Message body is required."),
        (len(form.get("Body", "")) <= _MAX_TEXT, 400, "21617 The message body exceeds 1600 characters."),
        (bool(_E164.fullmatch(form.get("To", ""))), 400, "21211 Invalid 'To' Phone Number"),
        (form.get("From") in (_SENDER, None), 400, "21606 The 'From' number can't send messages."),
        (
            validity.isdecimal() and 1 <= int(validity) <= _MAX_VALIDITY,
            400,
            "90007 Invalid validity period value",
        ),
    )
    return next((_no(status, words) for good, status, words in checks if not good), None)


def _no(status: int, words: str) -> Answer:
    """A refusal in Twilio's form: a code and a sentence."""
    code, _, message = words.partition(" ")
    known = {"code": int(code)} if code.isdecimal() else {}
    more = f"https://www.twilio.com/docs/errors/{code}"
    body = json.dumps({**known, "message": message, "more_info": more, "status": status})
    return Answer(status=status, reason=code, body=body, headers=_JSON)


def _answer(usual: Answer, fault: Fault | None) -> Answer:
    if fault is None or fault.kind not in ("status", "dead"):
        return usual
    if fault.kind == "dead":
        return _no(400, "21614 'To' number is not a valid mobile number")
    return _no(fault.status, fault.reason or _USUAL_CODE.get(fault.status, "20001 Refused"))


def _sid(call: Call) -> str:
    stem = (call.delivery_id or call.address).encode()
    return "SM" + hashlib.sha256(stem).hexdigest()[:32]


def status(form: Mapping[str, str], sid: str, word: str = "delivered", code: str = "") -> dict[str, str]:
    """The form of a status callback."""
    known = {"ErrorCode": code} if code else {}
    names = {
        "MessageSid": sid,
        "SmsSid": sid,
        "AccountSid": _ACCOUNT,
        "MessageStatus": word,
        "SmsStatus": word,
    }
    return {
        **names,
        **known,
        "To": form.get("To", ""),
        "From": form.get("From", ""),
        "ApiVersion": "2010-04-01",
    }


def signature(url: str, form: Mapping[str, str]) -> str:
    """As Twilio signs: the whole address, then names and values, sorted by name."""
    text = url + "".join(name + value for name, value in sorted(form.items()))
    return base64.b64encode(hmac.digest(_TOKEN.encode(), text.encode(), "sha1")).decode()


def _accepted(form: Mapping[str, str], call: Call) -> Answer:
    sid = _sid(call)
    message = {
        "sid": sid,
        "account_sid": _ACCOUNT,
        "status": "queued",
        "to": form.get("To"),
        "from": form.get("From"),
        "body": form.get("Body"),
        "num_segments": "1",
        "error_code": None,
        "error_message": None,
        "uri": f"/2010-04-01/Accounts/{_ACCOUNT}/Messages/{sid}.json",
    }
    return Answer(status=201, reason="queued", body=json.dumps(message), headers=_JSON, accepted=True)
