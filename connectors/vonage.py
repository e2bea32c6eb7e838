"""SMS by Vonage's SMS API (POST /sms/json), with the message of vonage 4.9.1.

The client's own `make_request` posts up to ten times when the provider hangs up, follows redirects,
writes bodies to the log and waits without end, so the POST goes by `_http.py`.

Options: `api_key`, `api_secret`, `sender` (a number or up to 11 letters and digits); and if the defaults
do not suit, `host`, `port`, `ca_file`, `timeout` (seconds for a whole send), `connections`.
For receipts: `signature_secret` and `signature_method` (sha256, or md5hash, md5, sha1, sha512) of the account,
and `callback` (https, up to 100 characters) where they go, unless the account names that address.
"""

import base64
import hashlib
import hmac
import json
import re
from collections.abc import Callable, Mapping
from datetime import datetime, timedelta
from typing import Any, cast
from urllib.parse import parse_qsl, urlencode

from vonage_sms import SmsMessage

from connectors._answer import Answer, NoAnswer
from connectors._http import Http
from connectors._options import Options, utc_now
from connectors._retry_after import retry_after
from connectors._sms import GSM, SENDER, refusal
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

_TTL = (20_000, 604_800_000)  # ms that the API takes
_WAIT = re.compile(r"\[\s*(\d{1,6})\s*\]")  # "please wait [ 250 ] and retry", in ms

# The status inside an HTTP 200. 0 is accepted; what is not named here has not been sent either (5 is
# Vonage's internal error).
_THROTTLED = frozenset({"1", "10"})  # throughput, too many binds
_VERDICTS: Mapping[str, tuple[type[Permanent | InvalidAddress | ChannelFault], str]] = {
    "2": (Permanent, "a parameter is missing"),
    "3": (Permanent, "a parameter is not valid"),
    "4": (ChannelFault, "the credentials are refused; check api_key and api_secret"),
    "6": (InvalidAddress, "the number is not valid or cannot be routed"),
    "7": (InvalidAddress, "the number is barred"),
    "8": (ChannelFault, "the account is barred; see Vonage's dashboard"),
    "9": (ChannelFault, "the account's quota is used up; add credit"),
    "11": (ChannelFault, "the account may not send SMS over HTTP; see Vonage's dashboard"),
    "12": (Permanent, "the text is too long"),
    "14": (ChannelFault, "the signature is refused; set the account to basic authentication"),
    "15": (Permanent, "the sender is not allowed for this number"),
    "22": (Permanent, "the network code is not valid"),
    "23": (Permanent, "the callback address is not valid"),
    "29": (Permanent, "the number is not on the trial account's list"),
    "32": (ChannelFault, "signature and credentials do not agree; set the account to basic authentication"),
    "33": (InvalidAddress, "the number is deactivated"),
}


def to_request(message: Message, sender: str, callback: str | None = None) -> SmsMessage | Outcome:
    """The SMS for a message, or why there can be none."""
    refused = refusal(message)
    if refused is not None:
        return refused
    text = message.content.text
    least, most = _TTL
    fields = {
        "to": message.address[1:],
        "from_": sender,
        "text": text,
        "type": "text" if GSM.issuperset(text) else "unicode",
        "client_ref": message.delivery_id,
        "ttl": min(max(int(message.time_to_live / timedelta(milliseconds=1)), least), most),
        "status_report_req": True,  # the receipt settles what a lost answer leaves open
        "callback": callback,
    }
    return SmsMessage.model_validate(fields)


def to_outcome(answer: Answer, now: datetime) -> Outcome:
    """What an answer means: HTTP first, then the status of every part of the message."""
    if not 200 <= answer.status < 300:
        return _http_outcome(answer, now)
    parts = _parts(answer.body)
    if parts is None:
        return Uncertain(reason="the answer cannot be read, the SMS may be sent", code="unreadable")
    return _parts_outcome(parts)


def _http_outcome(answer: Answer, now: datetime) -> Outcome:
    code, wait = str(answer.status), retry_after(answer.retry_after, now)
    match answer.status:
        case 429:
            return Throttled(reason="Vonage asks for less", code=code, retry_after=wait)
        case 504:  # a gateway that gave up waiting does not know what became of the SMS
            return Uncertain(reason="a gateway timed out, the SMS may be sent", code=code)
        case status if status == 408 or status >= 500:
            return Transient(reason="Vonage is not available", code=code, retry_after=wait)
        case 401 | 402 | 403:
            return ChannelFault(
                reason="Vonage refuses the account; check api_key, api_secret, credit", code=code
            )
        case status if status == 404 or status < 400:
            return ChannelFault(reason="this is not the SMS API; check options host and port", code=code)
        case _:
            return Permanent(reason="Vonage refuses the request", code=code)


def _parts(body: str) -> list[dict[str, Any]] | None:
    """The parts of an answer; None when it is no answer of the SMS API."""
    try:
        parts = json.loads(body)["messages"]
        if parts and all(isinstance(part["status"], str) for part in parts):
            return cast("list[dict[str, Any]]", parts)
    except (ValueError, TypeError, KeyError, RecursionError):
        pass
    return None


def _parts_outcome(parts: list[dict[str, Any]]) -> Outcome:
    refused = [part for part in parts if part["status"] != "0"]
    if not refused:
        return Accepted(provider_id=",".join(str(part.get("message-id", "")) for part in parts))
    code = cast("str", refused[0]["status"])
    if len(refused) < len(parts):  # never again: the parts that went out would come twice
        reason = f"only {len(parts) - len(refused)} of {len(parts)} parts were sent (status {code})"
        return Permanent(reason=reason, code="partly-sent")
    if code in _THROTTLED:
        wait = _WAIT.search(str(refused[0].get("error-text", "")))
        pause = timedelta(milliseconds=int(wait[1])) if wait else None
        return Throttled(reason="Vonage asks for less", code=code, retry_after=pause)
    if code not in _VERDICTS:
        return Transient(reason="Vonage has not sent the SMS", code=code)
    kind, reason = _VERDICTS[code]
    return kind(reason=reason, code=code)


def to_form(sms: SmsMessage) -> bytes:
    """The body of the POST."""
    fields = sms.model_dump(by_alias=True, exclude_none=True)
    return urlencode({name: "1" if value is True else str(value) for name, value in fields.items()}).encode()


class Vonage:
    """The connector. Make it inside the running event loop."""

    name = "vonage"

    def __init__(
        self,
        *,
        http: Http,
        url: str,
        authorization: str,
        sender: str,
        callback: str | None,
        capacity: int,
        clock: Callable[[], datetime],
    ) -> None:
        self.capacity = capacity
        self._http = http
        self._url = url
        self._headers = {
            "Authorization": authorization,
            "Content-Type": "application/x-www-form-urlencoded",
            "Accept": "application/json",
        }
        self._sender = sender
        self._callback = callback
        self._clock = clock

    async def send(self, message: Message) -> Outcome:
        """POST once."""
        sms = to_request(message, self._sender, self._callback)
        if not isinstance(sms, SmsMessage):
            return sms
        try:
            answer = await self._http.post(self._url, to_form(sms), self._headers)
        except NoAnswer as error:
            if error.fate == "untrusted":
                reason = "the server's certificate is not trusted; check host and ca_file"
                return ChannelFault(reason=reason, code=error.code)
            return error.outcome()
        return to_outcome(answer, self._clock())

    async def aclose(self) -> None:
        """Let what is in flight finish, then close every connection."""
        await self._http.aclose()


def create(options: Mapping[str, str]) -> Vonage:
    """The connector for these options. Raises BadOptions."""
    given = Options("vonage", options)
    key, secret = given.text("api_key"), given.text("api_secret")
    sender = given.text("sender")
    host, port = given.text("host", "rest.nexmo.com"), given.number("port", 443)
    ca_file = given.file("ca_file")
    timeout, connections = given.seconds("timeout", 10.0), given.number("connections", 200)
    callback = _callback(given.text("callback", ""))
    given.text("signature_secret", "")  # the receiver's
    given.text("signature_method", "")
    given.done()
    if not SENDER.fullmatch(sender):
        raise BadOptions(f"vonage: sender {sender!r} is neither a number nor 1 to 11 letters and digits")
    return Vonage(
        http=Http(ca_file=ca_file, timeout=timeout, at_once=connections),
        url=f"https://{host}:{port}/sms/json",
        authorization="Basic " + base64.b64encode(f"{key}:{secret}".encode()).decode(),
        sender=sender.removeprefix("+"),
        callback=callback,
        capacity=connections,
        clock=utc_now,
    )


def _callback(text: str) -> str | None:
    if text and not (text.startswith("https://") and len(text) <= 100):
        raise BadOptions(
            f"vonage: option 'callback' is {text!r}; set it to an https address of up to 100 characters"
        )
    return text or None


# The statuses of a delivery receipt, and the codes that say that the number itself is dead: absent for ever,
# illegal number. Source: Vonage's "Delivery receipts". Every other failure may be the network's or ours.
_FATES: Mapping[str, Fate] = {
    "accepted": "under_way",
    "buffered": "under_way",
    "unknown": "under_way",
    "delivered": "delivered",
    "expired": "failed",
    "failed": "failed",
    "rejected": "failed",
}
_DEAD_NUMBER = frozenset({"3", "9"})
_PERSONAL = frozenset({"msisdn", "to", "sig"})
_METHODS = ("sha256", "md5hash", "md5", "sha1", "sha512")


class VonageReceiver:
    """Delivery receipts of the SMS API, signed as the account's settings say."""

    def __init__(self, secret: str, method: str) -> None:
        self._secret = secret.encode()
        self._method = method

    def read(self, callback: Callback) -> Receipt | None:
        """By GET, as a form or as JSON; our reference says which delivery."""
        found = _parameters(callback)
        if not hmac.compare_digest(found.get("sig", "").lower().encode(), self.signature(found).encode()):
            raise Forged("the signature is not Vonage's; check signature_secret, signature_method")
        reference, code = found.get("client-ref", ""), found.get("err-code", "")
        if not reference or "status" not in found:
            return None
        fate = _FATES.get(found["status"], "under_way")
        if fate == "failed" and code in _DEAD_NUMBER:
            fate = "dead_address"
        facts = {name: value for name, value in found.items() if name not in _PERSONAL}
        return Receipt(delivery_id=reference, fate=fate, code=code, facts=facts)

    def signature(self, parameters: Mapping[str, str]) -> str:
        """Of all parameters but `sig`, sorted by name. Source: Vonage's "Signing messages"."""
        clean = (
            (name, value.replace("&", "_").replace("=", "_")) for name, value in sorted(parameters.items())
        )
        text = "".join(f"&{name}={value}" for name, value in clean if name != "sig").encode()
        if self._method == "md5hash":
            return hashlib.md5(text + self._secret, usedforsecurity=False).hexdigest()
        return hmac.new(self._secret, text, self._method).hexdigest()


def _parameters(callback: Callback) -> dict[str, str]:
    try:
        found = dict(parse_qsl(callback.query, keep_blank_values=True, max_num_fields=100))
        body = callback.body.decode()
        if "json" not in callback.headers.get("content-type", ""):
            return found | dict(parse_qsl(body, keep_blank_values=True, max_num_fields=100))
        return found | {str(name): str(value) for name, value in dict(json.loads(body)).items()}
    except (ValueError, TypeError, RecursionError) as error:
        raise Forged("neither a form nor JSON") from error


def create_receiver(options: Mapping[str, str]) -> VonageReceiver:
    """What reads the receipts, by the same options. Raises BadOptions."""
    given = Options("vonage", options)
    secret, method = given.text("signature_secret"), given.text("signature_method", _METHODS[0])
    if method not in _METHODS:
        raise BadOptions(
            f"vonage: option 'signature_method' is {method!r}; set it to one of {', '.join(_METHODS)}"
        )
    return VonageReceiver(secret, method)
