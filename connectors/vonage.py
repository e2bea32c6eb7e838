"""SMS by Vonage's SMS API (POST /sms/json), with the message of vonage 4.9.1.

The client's own `make_request` posts up to ten times when the provider hangs up, follows redirects,
writes bodies to the log and waits without end, so the POST goes by `_http.py`.

Options: `api_key`, `api_secret`, `sender` (a number or up to 11 letters and digits); and if the defaults
do not suit, `host`, `port`, `ca_file`, `timeout` (seconds for a whole send), `connections`.
"""

import base64
import json
import re
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any, cast
from urllib.parse import urlencode

from vonage_sms import SmsMessage

from connectors._answer import Answer, NoAnswer
from connectors._http import Http
from connectors._options import Options
from connectors._retry_after import retry_after
from connectors._sms import SENDER, refusal
from connectors.contract import (
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

_TTL = (20_000, 604_800_000)  # ms that the API takes
_WAIT = re.compile(r"\[\s*(\d{1,6})\s*\]")  # "please wait [ 250 ] and retry", in ms

# 3GPP TS 23.038: what fits into a text message without UCS-2.
_GSM = frozenset(
    "@£$¥èéùìòÇ\nØø\rÅåΔ_ΦΓΛΩΠΨΣΘΞÆæßÉ !\"#¤%&'()*+,-./0123456789:;<=>?¡ABCDEFGHIJKLMNOPQRSTUVWXYZÄÖÑÜ§"
    "¿abcdefghijklmnopqrstuvwxyzäöñüà\f^{}\\[~]|€"
)

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


def to_request(message: Message, sender: str) -> SmsMessage | Outcome:
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
        "type": "text" if _GSM.issuperset(text) else "unicode",
        "client_ref": message.delivery_id,
        "ttl": min(max(int(message.time_to_live / timedelta(milliseconds=1)), least), most),
        "status_report_req": True,  # the receipt settles what a lost answer leaves open
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
        self._clock = clock

    async def send(self, message: Message) -> Outcome:
        """POST once."""
        sms = to_request(message, self._sender)
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
    given.done()
    if not SENDER.fullmatch(sender):
        raise BadOptions(f"vonage: sender {sender!r} is neither a number nor 1 to 11 letters and digits")
    return Vonage(
        http=Http(ca_file=ca_file, timeout=timeout, at_once=connections),
        url=f"https://{host}:{port}/sms/json",
        authorization="Basic " + base64.b64encode(f"{key}:{secret}".encode()).decode(),
        sender=sender.removeprefix("+"),
        capacity=connections,
        clock=_utc_now,
    )


def _utc_now() -> datetime:
    return datetime.now(UTC)  # noqa: TID251 - options are strings, so a connector brings its own clock
