"""SMS by Vonage's SMS API (POST /sms/json), with vonage 4.9.1's client and message.

The client's own `make_request` posts up to ten times when the provider hangs up, follows redirects,
writes bodies to the log and waits without end. It is not called: the connector posts once, over the
session of the client.

What is known of a lost request decides whether a phone may ring twice, so the body itself keeps the
proof: as long as nobody has read it, nothing was sent, and it can still be withdrawn.

Options: `api_key`, `api_secret`, `sender` (a number or up to 11 letters and digits); and if the defaults
do not suit, `host`, `port`, `ca_file`, `timeout` (seconds for a whole send), `threads`.
"""

import asyncio
import io
import json
import queue
import re
import threading
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, cast
from urllib.parse import urlencode

import requests
from requests.adapters import HTTPAdapter
from urllib3 import Timeout
from urllib3.exceptions import HTTPError
from vonage_http_client import Auth, HttpClient, HttpClientOptions
from vonage_sms import SmsMessage

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
_IDLE = 15.0  # seconds after which a connection is not trusted: a race with its end loses an SMS
_MAX_BODY = 65_536  # bytes of an answer; a real one has some hundreds for each part
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


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What the API said. `body` is None when it broke off."""

    status: int
    retry_after: str | None = None
    body: bytes | None = b""


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


def _parts(body: bytes | None) -> list[dict[str, Any]] | None:
    """The parts of an answer; None when it is no answer of the SMS API."""
    try:
        parts = json.loads(body or b"")["messages"]
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


class Form(io.BytesIO):
    """The body of one request. It is read after connection and headers, so it knows what went out."""

    def __init__(self, sms: SmsMessage) -> None:
        fields = sms.model_dump(by_alias=True, exclude_none=True)
        super().__init__(urlencode({name: _plain(value) for name, value in fields.items()}).encode())
        self._lock = threading.Lock()
        self._withdrawn = False
        self.written = False

    def read(self, size: int | None = -1, /) -> bytes:
        """Hand the body over. Raises TimeoutError when it was withdrawn."""
        with self._lock:
            if self._withdrawn:
                raise TimeoutError("withdrawn")
            self.written = True
        return super().read(size)

    def withdraw(self) -> bool:
        """Forbid the sending; False when it is too late."""
        with self._lock:
            self._withdrawn = True
            return not self.written


def _plain(value: object) -> str:
    return "1" if value is True else str(value)


class _Client(HttpClient):
    """One connection. Not thread-safe, so one thread has it at a time."""

    def __init__(self, auth: Auth, host: str, ca_file: Path | None) -> None:
        options = HttpClientOptions(rest_host=host, max_retries=0, pool_connections=1, pool_maxsize=1)
        super().__init__(auth, options)
        self._session.verify = str(ca_file) if ca_file else True
        self._session.trust_env = False
        self._used = time.monotonic()

    def post_once(self, form: Form, deadline: float) -> Answer:
        """One POST; `deadline` as of time.monotonic. Raises OSError or urllib3's HTTPError."""
        started = time.monotonic()
        if started - self._used > _IDLE:
            self.close()  # the next request makes a new connection
        headers = {
            "User-Agent": self.user_agent,
            "Accept": "application/json",
            "Content-Type": "application/x-www-form-urlencoded",
            "Authorization": self.auth.create_basic_auth_string(),
        }
        with self._session.post(
            f"https://{self.rest_host}/sms/json",
            data=form,
            headers=headers,
            timeout=cast("Any", Timeout(total=deadline - started)),  # requests takes it, its types do not
            allow_redirects=False,
            stream=True,
        ) as response:
            body = _read(response, deadline)
            self._used = time.monotonic()
            return Answer(
                status=response.status_code, retry_after=response.headers.get("Retry-After"), body=body
            )

    def close(self) -> None:
        """Close the connection, now: a session only drops its pools, and an error's traceback may keep them."""
        for adapter in self._session.adapters.values():
            pools = cast("HTTPAdapter", adapter).poolmanager.pools
            for key in pools.keys():  # noqa: SIM118 - it cannot be iterated over
                pools[key].close()
        self._session.close()


def _read(response: requests.Response, deadline: float) -> bytes | None:
    """The body, as far as size and time allow: the status line alone may be verdict enough."""
    body = b""
    try:
        # What has come so far: iter_content would wait until a chunk is full, however slowly it drips.
        while chunk := response.raw.read1(8192, decode_content=True):
            body += chunk
            if len(body) > _MAX_BODY or time.monotonic() > deadline:
                return None
    except (OSError, HTTPError):
        return None
    return body


class Vonage:
    """The connector. Make it inside the running event loop."""

    name = "vonage"

    def __init__(
        self,
        *,
        make_client: Callable[[], _Client],
        sender: str,
        timeout: float,
        threads: int,
        clock: Callable[[], datetime],
    ) -> None:
        self.capacity = threads
        self._make_client = make_client
        self._sender = sender
        self._timeout = timeout
        self._clock = clock
        self._clients: queue.LifoQueue[_Client] = queue.LifoQueue()  # the idle ones, warmest first
        self._threads = ThreadPoolExecutor(threads, thread_name_prefix="vonage")
        self._jobs: set[asyncio.Future[Answer]] = set()
        self._closed = False

    async def send(self, message: Message) -> Outcome:
        """POST once."""
        sms = to_request(message, self._sender)
        if not isinstance(sms, SmsMessage):
            return sms
        if self._closed:
            return Transient(reason="not sent: the connector is closed", code="closed")
        form = Form(sms)
        try:
            async with asyncio.timeout(self._timeout):
                return to_outcome(await self._run(form), self._clock())
        except asyncio.CancelledError:
            form.withdraw()
            raise
        except (OSError, HTTPError) as error:
            return _lost(error, sent=not form.withdraw())

    async def _run(self, form: Form) -> Answer:
        """In a thread. The job outlives a cancel, since a thread cannot be stopped; it ends by its timeout."""
        deadline = time.monotonic() + self._timeout
        job = asyncio.wrap_future(self._threads.submit(self._post, form, deadline))
        self._jobs.add(job)
        job.add_done_callback(self._ended)
        return await asyncio.shield(job)

    def _ended(self, job: asyncio.Future[Answer]) -> None:
        self._jobs.discard(job)
        if not job.cancelled():
            job.exception()  # seen, also when nobody waits for it any more

    def _post(self, form: Form, deadline: float) -> Answer:
        # What starts with little time left is likely cut off after the write, and then nobody knows.
        if time.monotonic() > deadline - self._timeout / 2:
            raise TimeoutError("no thread was free in time")
        try:
            client = self._clients.get_nowait()
        except queue.Empty:
            client = self._make_client()
        try:
            return client.post_once(form, deadline)
        finally:
            self._clients.put(client)

    async def aclose(self) -> None:
        """Let what is in flight finish, then end the threads and close every connection."""
        self._closed = True
        if self._jobs:
            await asyncio.wait(self._jobs, timeout=2 * self._timeout)
        self._threads.shutdown(wait=not self._jobs)
        while not self._clients.empty():
            self._clients.get_nowait().close()


def _lost(error: Exception, *, sent: bool) -> Outcome:
    """What a failure without an answer means."""
    code = type(error).__name__
    if sent:
        return Uncertain(reason=f"the SMS was written and the answer is lost: {code}", code=code)
    if "CERTIFICATE_VERIFY_FAILED" in str(error):
        return ChannelFault(
            reason="the server's certificate is not trusted; check host and ca_file", code=code
        )
    return Transient(reason=f"not sent: {code}", code=code)


def create(options: Mapping[str, str]) -> Vonage:
    """The connector for these options. Raises BadOptions."""
    given = Options("vonage", options)
    auth = Auth(api_key=given.text("api_key"), api_secret=given.text("api_secret"))
    sender = given.text("sender")
    host, port = given.text("host", "rest.nexmo.com"), given.number("port", 443)
    ca_file = given.file("ca_file")
    timeout, threads = given.seconds("timeout", 10.0), given.number("threads", 32)
    given.done()
    if not SENDER.fullmatch(sender):
        raise BadOptions(f"vonage: sender {sender!r} is neither a number nor 1 to 11 letters and digits")
    return Vonage(
        make_client=lambda: _Client(auth, f"{host}:{port}", ca_file),
        sender=sender.removeprefix("+"),
        timeout=timeout,
        threads=threads,
        clock=_utc_now,
    )


def _utc_now() -> datetime:
    return datetime.now(UTC)  # noqa: TID251 - options are strings, so a connector brings its own clock
