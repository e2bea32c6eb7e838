"""SMS by Twilio's Messages API (POST /2010-04-01/Accounts/<sid>/Messages.json).

The request is our own, six form fields over `_http.py`, because the `twilio` package's asynchronous client
ignores its timeout, drops the headers of a refusal (with them Retry-After), writes every URL into the log,
leans on what aiohttp 4 removes, and costs more than the request itself. The package stands in the tests
instead, where it judges that our request is the one that it would have made.

The API knows no idempotency key: whatever leaves open whether the SMS was sent is uncertain, and so is an
HTTP 500, of which Twilio's page on error 20500 says that a repeat may come twice. The only thing of ours
that Twilio hands back is the address of the status callback, so that carries the delivery id.

The sources of every rule are Twilio's "Messages resource" and "Error and Warning Dictionary". Twilio
splits its codes into finer ones over time, so HTTP decides first and an unknown code changes nothing.

Options: `account_sid`, `auth_token`, `sender` (a number, a short code, up to 11 letters and digits, or the
MG... of a messaging service); and if the defaults do not suit, `api_key` (SK..., then `auth_token` is its
secret), `status_callback` (https: where Twilio sends receipts), `signing_token` (the account's auth token,
which signs these; default: `auth_token`), `host` (of another region or edge), `port`, `ca_file`, `timeout` (seconds
for a whole send), `connections`.
"""

import base64
import functools
import hashlib
import hmac
import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from urllib.parse import parse_qsl, quote_plus

from yarl import URL

from connectors._answer import Answer, NoAnswer
from connectors._http import Http
from connectors._options import Options, utc_now
from connectors._retry_after import retry_after
from connectors._sms import SENDER, refusal
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

_ACCOUNT = re.compile(r"AC[0-9a-fA-F]{32}")
_SERVICE = re.compile(r"MG[0-9a-fA-F]{32}")
_VALIDITY = (1, 36_000)  # seconds that the API takes (error 90007)

Refusal = type[Permanent | InvalidAddress | ChannelFault | Throttled | Transient]
# What the code of a refusal says beyond its HTTP status; every other code of a 4xx is Permanent.
_CODES: Mapping[int, tuple[Refusal, str]] = {
    10001: (ChannelFault, "the account is not active; add credit or see Twilio's console"),
    20005: (ChannelFault, "the account is not active; add credit or see Twilio's console"),
    30002: (ChannelFault, "the account is suspended; see Twilio's console"),
    90010: (ChannelFault, "the account is not active; add credit or see Twilio's console"),
    14107: (Throttled, "Twilio asks for less from this sender"),
    20429: (Throttled, "Twilio asks for less"),
    21611: (Throttled, "the sender's queue at Twilio is full"),
    63018: (Throttled, "Twilio asks for less"),
    21730: (Transient, "Twilio's messaging is under maintenance"),
    21211: (InvalidAddress, "the number is not valid"),
    21217: (InvalidAddress, "the number is not valid"),
    21265: (InvalidAddress, "the number is a short code"),
    21266: (InvalidAddress, "the number is our own sender"),
    21268: (InvalidAddress, "the number is a premium or information service"),
    21610: (InvalidAddress, "the recipient has opted out at Twilio (STOP)"),
    21614: (InvalidAddress, "the number is no mobile number"),
    21635: (InvalidAddress, "the number is a landline"),
    21612: (Permanent, "Twilio has no way from our sender to this number"),  # the sender may be to blame
    21408: (Permanent, "the account may not send to this region; see Geo Permissions in Twilio's console"),
    21608: (Permanent, "the number is not verified for the trial account"),
    572002: (Permanent, "the sender is not the trial number of this recipient"),
    572005: (Permanent, "the number is not verified for the trial account"),
    21601: (ChannelFault, "the sender is not ours to use; check sender"),
    21603: (ChannelFault, "the sender is missing; check sender"),
    21606: (ChannelFault, "the sender cannot send messages; check sender"),
    21607: (ChannelFault, "the trial account must send from its own number; check sender"),
    21212: (ChannelFault, "the sender is not valid; check sender"),
    21267: (ChannelFault, "a trial account must send from a number; check sender"),
    21609: (ChannelFault, "the address of the status callback is not valid; check status_callback"),
    21659: (ChannelFault, "the sender is no number of Twilio's; check sender"),
    21660: (ChannelFault, "the sender belongs to another account; check sender, account_sid"),
    21661: (ChannelFault, "the sender cannot send SMS; check sender"),
    21701: (ChannelFault, "the messaging service does not exist; check sender"),
    21703: (ChannelFault, "the messaging service has no senders; see Twilio's console"),
    21705: (ChannelFault, "the messaging service is not valid; check sender"),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Origin:
    """Who sends, and where Twilio reports."""

    sender: str
    status_callback: URL | None = None

    def fields(self, delivery_id: str) -> tuple[str, ...]:
        """The fields of the form that tell it."""
        sender, callback = _origin(self.sender, self.status_callback)
        return (sender, callback + quote_plus(delivery_id)) if callback else (sender,)


@functools.lru_cache(1)
def _origin(sender: str, status_callback: URL | None) -> tuple[str, str]:
    """The fields that are always the same; the second wants a delivery id behind it."""
    name = "MessagingServiceSid" if _SERVICE.fullmatch(sender) else "From"
    callback = ""
    if status_callback is not None:
        url = str(status_callback.update_query(delivery_id="-"))
        callback = f"StatusCallback={quote_plus(url.removesuffix('-'))}"
    return f"{name}={quote_plus(sender)}", callback


def to_request(message: Message, origin: Origin) -> bytes | Outcome:
    """The form for a message, or why there can be none."""
    refused = refusal(message)
    if refused is not None:
        return refused
    least, most = _VALIDITY
    seconds = int(message.time_to_live / timedelta(seconds=1))
    fields = (
        f"To={quote_plus(message.address)}",
        f"Body={quote_plus(message.content.text)}",
        f"ValidityPeriod={min(max(seconds, least), most)}",
        *origin.fields(message.delivery_id),
    )
    return "&".join(fields).encode()


def to_outcome(answer: Answer, now: datetime) -> Outcome:
    """What an answer means: HTTP first, then the code."""
    found = _json(answer.body)
    if 200 <= answer.status < 300:
        return _accepted(found)
    number = found.get("code")
    code = f"{answer.status} {number}" if isinstance(number, int) else str(answer.status)
    wait = retry_after(answer.retry_after, now)
    match answer.status:
        case 429:
            return Throttled(reason="Twilio asks for less", code=code, retry_after=wait)
        case 408 | 503:  # 20503: temporarily unavailable, try again
            return Transient(reason="Twilio is not available", code=code, retry_after=wait)
        case status if status >= 500:
            return Uncertain(reason="Twilio failed while it worked on the SMS, which may be sent", code=code)
        case _:
            return _refused(answer.status, number, code, wait)


def _accepted(found: Mapping[str, Any]) -> Outcome:
    sid = found.get("sid")
    if isinstance(sid, str) and sid:
        return Accepted(provider_id=sid)
    return Uncertain(reason="the answer cannot be read, the SMS may be sent", code="unreadable")


def _refused(status: int, number: object, code: str, wait: timedelta | None) -> Outcome:
    """The statuses that are about this request, or about the account."""
    kind, reason = _CODES.get(number, (None, "")) if isinstance(number, int) else (None, "")
    if status == 401:
        return ChannelFault(
            reason="Twilio refuses the credentials; check account_sid, auth_token, api_key", code=code
        )
    if kind is Throttled or kind is Transient:
        return kind(reason=reason, code=code, retry_after=wait)
    if kind is not None:
        return kind(reason=reason, code=code)
    if status in (402, 403):
        return ChannelFault(reason="Twilio does not let the account send; see its console", code=code)
    if status in (404, 405) or status < 400:
        return ChannelFault(
            reason="this is not our account's Messages API; check account_sid, host", code=code
        )
    return Permanent(reason="Twilio refuses the request", code=code)


def _json(body: str) -> dict[str, Any]:
    try:
        value = json.loads(body)
    except (ValueError, RecursionError):
        return {}
    return value if isinstance(value, dict) else {}


class Twilio:
    """The connector. Make it inside the running event loop."""

    name = "twilio"

    def __init__(
        self,
        *,
        http: Http,
        url: URL,
        authorization: str,
        origin: Origin,
        capacity: int,
        clock: Callable[[], datetime],
    ) -> None:
        self.capacity = capacity
        self._http = http
        self.url = url
        self._target = str(url)
        self._headers = {
            "Authorization": authorization,
            "Content-Type": "application/x-www-form-urlencoded",
            "Accept": "application/json",
        }
        self._origin = origin
        self._clock = clock

    async def send(self, message: Message) -> Outcome:
        """POST once."""
        form = to_request(message, self._origin)
        if not isinstance(form, bytes):
            return form
        try:
            answer = await self._http.post(self._target, form, self._headers)
        except NoAnswer as error:
            if error.fate == "untrusted":
                reason = "the server's certificate is not trusted; check host and ca_file"
                return ChannelFault(reason=reason, code=error.code)
            return error.outcome()
        return to_outcome(answer, self._clock())

    async def aclose(self) -> None:
        """Let what is in flight finish, then close every connection."""
        await self._http.aclose()


def create(options: Mapping[str, str]) -> Twilio:
    """The connector for these options. Raises BadOptions."""
    given = Options("twilio", options)
    account, secret = given.text("account_sid"), given.text("auth_token")
    user = given.text("api_key", account)
    origin = Origin(
        sender=_sender(given.text("sender")), status_callback=_callback(given.text("status_callback", ""))
    )
    url = _url(given.text("host", "api.twilio.com"), given.number("port", 443), account)
    ca_file = given.file("ca_file")
    # Twilio answers 429 beyond 100 requests at once, unless the account has more; those that hang count, too.
    given.text("signing_token", "")  # the receiver's
    timeout, connections = given.seconds("timeout", 10.0), given.number("connections", 90)
    given.done()
    return Twilio(
        http=Http(ca_file=ca_file, timeout=timeout, at_once=connections),
        url=url,
        authorization="Basic " + base64.b64encode(f"{user}:{secret}".encode()).decode(),
        origin=origin,
        capacity=connections,
        clock=utc_now,
    )


def _url(host: str, port: int, account: str) -> URL:
    if not _ACCOUNT.fullmatch(account):
        raise BadOptions("twilio: option 'account_sid' is no account; set it to AC and 32 hexadecimal digits")
    try:
        return URL.build(
            scheme="https", host=host, port=port, path=f"/2010-04-01/Accounts/{account}/Messages.json"
        )
    except ValueError as error:
        raise BadOptions(f"twilio: option 'host' is {host!r}; set it to a host's name") from error


def _sender(text: str) -> str:
    if not SENDER.fullmatch(text) and not _SERVICE.fullmatch(text):
        raise BadOptions(
            f"twilio: sender {text!r} is neither a number, 1 to 11 letters and digits, nor a messaging service"
        )
    return text


def _callback(text: str) -> URL | None:
    if not text:
        return None
    try:
        url = URL(text)
    except ValueError:
        url = URL()
    if url.scheme != "https" or not url.host:
        raise BadOptions(f"twilio: option 'status_callback' is {text!r}; set it to an https address")
    return url


# "Outbound message status in status callbacks", and the errors that say that the number is dead: an unknown
# destination, a landline. Every other failure may be the network's or ours.
_FATES: Mapping[str, Fate] = {
    "delivered": "delivered",
    "read": "delivered",
    "undelivered": "failed",
    "failed": "failed",
    "canceled": "failed",
}
_DEAD_NUMBER = frozenset({"30005", "30006"})
_PERSONAL = frozenset({"To", "From", "Body"})


class TwilioReceiver:
    """Status callbacks, signed over the address that Twilio was given and the form."""

    def __init__(self, token: str, url: URL) -> None:
        self._token = token.encode()
        # Twilio signs the address with its port or without it, whatever stands there.
        plain = url.with_query(None).with_fragment(None)
        self._urls = {
            str(plain),
            str(plain.with_port(None)),
            f"{plain.scheme}://{plain.host}:{plain.port}{plain.path}",
        }

    def read(self, callback: Callback) -> Receipt | None:
        """The form's status; the delivery id stands in the address."""
        try:
            form = parse_qsl(callback.body.decode(), keep_blank_values=True, max_num_fields=100)
            query = dict(parse_qsl(callback.query, keep_blank_values=True, max_num_fields=100))
        except ValueError as error:
            raise Forged("the body is no form") from error
        given = callback.headers.get("x-twilio-signature", "").encode()
        if not any(
            hmac.compare_digest(given, self.signature(url, callback.query, form)) for url in self._urls
        ):
            raise Forged("the signature is not Twilio's; check signing_token, status_callback")
        found = dict(form)
        status, code, reference = (
            found.get("MessageStatus"),
            found.get("ErrorCode", ""),
            query.get("delivery_id"),
        )
        if not status or not reference:
            return None
        fate = _FATES.get(status, "under_way")
        if fate == "failed" and code in _DEAD_NUMBER:
            fate = "dead_address"
        elif fate == "failed" and code == "21610":
            fate = "opted_out"
        facts = {name: value for name, value in found.items() if name not in _PERSONAL}
        return Receipt(delivery_id=reference, fate=fate, code=code, facts=facts)

    def signature(self, url: str, query: str, form: Sequence[tuple[str, str]]) -> bytes:
        """Source: Twilio's "Webhooks security": address, then every name and value, sorted."""
        words = f"{url}?{query}" if query else url
        text = words + "".join(name + value for name, value in sorted(set(form)))
        return base64.b64encode(hmac.new(self._token, text.encode(), hashlib.sha1).digest())


def create_receiver(options: Mapping[str, str]) -> TwilioReceiver:
    """What reads the status callbacks, by the same options. Raises BadOptions."""
    given = Options("twilio", options)
    token = given.text("signing_token", given.text("auth_token"))
    url = _callback(given.text("status_callback"))
    return TwilioReceiver(token, url or URL())
