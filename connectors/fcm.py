"""Firebase Cloud Messaging, HTTP v1: one message, one POST.

pyfcm builds the payload and google-auth signs for the access token; the POST goes by `_http.py`, because
pyfcm repeats it, sleeps and recurses by itself (measured). The sources of every rule are Google's
"FCM error codes" and the reference of `projects.messages`. Options: `service_account_path` (the JSON
file), and optionally `project_id` (default: the file's), `endpoint`, `ca_file`, `timeout` (seconds).
"""

import asyncio
import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from google.auth.exceptions import GoogleAuthError
from pyfcm import FCMNotification

from connectors._answer import Answer, NoAnswer
from connectors._fcm_token import AccessToken, NoToken, Tokens, fetcher
from connectors._http import Http
from connectors._options import Options, utc_now
from connectors._retry_after import retry_after
from connectors.contract import (
    SILENT,
    Accepted,
    BadOptions,
    ChannelFault,
    Content,
    InvalidAddress,
    Message,
    Outcome,
    Permanent,
    Throttled,
    Transient,
    Uncertain,
)

_ADDRESS = re.compile(r"[A-Za-z0-9_:.%-]{16,4096}")
_MAX_PAYLOAD = 4096  # bytes of notification and data
_MAX_TTL = timedelta(weeks=4)  # Google refuses more
_QUOTA_WAIT = timedelta(seconds=60)  # Google's advice for a 429 without Retry-After
_CONNECTIONS = 1000  # FCM allows 10,000 requests a second and project
_NEW = timedelta(minutes=5)  # a token refused at this age will not be better when fetched again

Refusal = type[Permanent | InvalidAddress | Transient | Throttled | Uncertain | ChannelFault]
_BY_CODE: Mapping[str, Refusal] = {  # of the FcmError
    "UNREGISTERED": InvalidAddress,
    "SENDER_ID_MISMATCH": InvalidAddress,
    "THIRD_PARTY_AUTH_ERROR": ChannelFault,
    "QUOTA_EXCEEDED": Throttled,
    "UNAVAILABLE": Transient,
    "INTERNAL": Transient,
    "UNSPECIFIED_ERROR": Transient,
}
# Without an FcmError a 403 or 404 speaks of the project or the URL, not of the device.
_BY_STATUS: Mapping[int, Refusal] = {
    401: ChannelFault,
    403: ChannelFault,
    404: ChannelFault,
    408: Transient,
    429: Throttled,
}
_BY_CLASS: Mapping[int, Refusal] = {3: ChannelFault, 4: Permanent, 5: Transient}  # the first digit
_FIX: Mapping[str, str] = {
    "THIRD_PARTY_AUTH_ERROR": "renew the APNs key or the web push key in the Firebase console",
    "UNAUTHENTICATED": "check that the service account and its key are still valid",
}
_BAD_ADDRESS = "not a valid FCM registration token"


@dataclass(frozen=True, slots=True, kw_only=True)
class _Error:
    """The parts of Google's error body that decide; all empty when it is none."""

    code: str = ""  # of the FcmError
    status: str = ""  # Google's canonical one, for example NOT_FOUND
    message: str = ""
    fields: tuple[str, ...] = ()  # that the request has wrong


def payloads() -> FCMNotification:
    """Make pyfcm's builder of payloads. It wants a file, and would read it only to send by itself."""
    return FCMNotification(service_account_file="unused")


def to_request(message: Message, fcm: FCMNotification) -> bytes | Permanent | InvalidAddress:
    """The body of the POST, or why none can be made."""
    if not _ADDRESS.fullmatch(message.address):
        return InvalidAddress(
            reason="the registration token holds what no token holds", code="INVALID_ARGUMENT"
        )
    content = message.content
    data = {"delivery_id": message.delivery_id, "event_id": message.event_id, "link": content.link}
    notification = {"title": content.title, "body": content.text, "image": content.image}
    size = len(json.dumps([notification, data], ensure_ascii=False, separators=(",", ":")).encode())
    if size > _MAX_PAYLOAD:
        return Permanent(
            reason=f"the payload has {size} bytes, FCM takes {_MAX_PAYLOAD}: shorten the template",
            code="PayloadTooLarge",
        )
    return fcm.parse_payload(
        fcm_token=message.address,
        notification_title=content.title,
        notification_body=content.text,
        notification_image=content.image,
        data_payload={key: value for key, value in data.items() if value},
        android_config=_android(message),
        apns_config=_apple(content),
    )


def _android(message: Message) -> dict[str, Any]:
    time_to_live = min(max(message.time_to_live, timedelta()), _MAX_TTL)
    shown: dict[str, Any] = {"tag": message.delivery_id}  # a repeat replaces the first on the device
    if message.content.sound not in (None, SILENT):  # from Android 8 on, silence is the channel's to say
        shown["sound"] = message.content.sound
    if message.content.badge is not None:
        shown["notification_count"] = message.content.badge
    config: dict[str, Any] = {
        "priority": "high" if message.urgent else "normal",
        "ttl": f"{int(time_to_live.total_seconds())}s",
        "notification": shown,
    }
    if message.collapse_key:
        config["collapse_key"] = message.collapse_key
    return config


def _apple(content: Content) -> dict[str, Any] | None:
    """What only an iPhone behind FCM reads."""
    aps: dict[str, Any] = {}
    if content.sound not in (None, SILENT):
        aps["sound"] = content.sound
    if content.badge is not None:
        aps["badge"] = content.badge
    return {"payload": {"aps": aps}} if aps else None


def to_outcome(answer: Answer, now: datetime, *, token_age: timedelta = _NEW) -> Outcome:
    """What an answer means. `token_age` is that of the access token in the request."""
    wait = retry_after(answer.retry_after, now)
    if answer.status == 200:
        return _accepted(answer.body)
    error = _error(answer.body)
    code = error.code or error.status or str(answer.status)
    words = f"FCM answered {answer.status} {code}"
    kind = (
        _BY_CODE.get(error.code)
        or _BY_STATUS.get(answer.status)
        or _BY_CLASS.get(answer.status // 100, Uncertain)
    )
    if "INVALID_ARGUMENT" in (error.code, error.status) and _names_the_token(error):
        kind = InvalidAddress
    if answer.status == 401 and not error.code and token_age >= _NEW:
        return Transient(reason=f"{words}: the next request carries a new access token", code=code)
    if kind is Throttled:
        return Throttled(reason=words, code=code, retry_after=wait or _QUOTA_WAIT)
    if kind is Transient:
        return Transient(reason=words, code=code, retry_after=wait)
    if kind is ChannelFault:
        words = (
            f"{words}: {_FIX.get(code, 'check project_id, endpoint and the rights of the service account')}"
        )
    return kind(reason=words, code=code)


def _accepted(body: str) -> Accepted | Uncertain:
    name = _json(body).get("name")
    if isinstance(name, str):
        return Accepted(provider_id=name)
    return Uncertain(reason="FCM answered 200 without the name of the message", code="200")


def _names_the_token(error: _Error) -> bool:
    return "message.token" in error.fields or _BAD_ADDRESS in error.message


def _error(body: str) -> _Error:
    error = _json(body).get("error")
    if not isinstance(error, dict):
        return _Error()
    found = [detail for detail in _list(error.get("details")) if isinstance(detail, dict)]
    codes = [d.get("errorCode") for d in found if str(d.get("@type", "")).endswith("fcm.v1.FcmError")]
    violations = [one for d in found for one in _list(d.get("fieldViolations")) if isinstance(one, dict)]
    return _Error(
        code=str(codes[0]) if codes else "",
        status=str(error.get("status", "")),
        message=str(error.get("message", "")),
        fields=tuple(str(one.get("field", "")) for one in violations),
    )


def _list(value: object) -> list[Any]:
    return value if isinstance(value, list) else []


def _json(body: str) -> dict[str, Any]:
    try:
        value = json.loads(body)
    except ValueError:
        return {}
    return value if isinstance(value, dict) else {}


class Fcm:
    """The connector. Make it inside the running event loop."""

    name = "fcm"
    capacity = _CONNECTIONS

    def __init__(
        self, *, url: str, tokens: Tokens, http: Http, seconds: float, clock: Callable[[], datetime]
    ) -> None:
        self._url = url
        self._tokens = tokens
        self._http = http
        self._seconds = seconds
        self._clock = clock
        self._payloads = payloads()

    async def send(self, message: Message) -> Outcome:
        """One request; see the contract."""
        body = to_request(message, self._payloads)
        if not isinstance(body, bytes):
            return body
        try:
            async with asyncio.timeout(self._seconds):
                token = await self._tokens.current()
        except TimeoutError:
            return Transient(reason=f"not sent: no access token within {self._seconds:g} s", code="OAuth")
        except NoToken as error:
            return _no_token(error)
        return await self._post(body, token)

    async def _post(self, body: bytes, token: AccessToken) -> Outcome:
        headers = {"Authorization": f"Bearer {token.value}", "Content-Type": "application/json"}
        try:
            answer = await self._http.post(self._url, body, headers)
        except NoAnswer as error:
            if error.fate == "untrusted":
                return ChannelFault(reason="FCM's certificate is not trusted; check ca_file", code="TLS")
            return error.outcome()
        now = self._clock()
        outcome = to_outcome(answer, now, token_age=now - token.fetched_at)
        if answer.status == 401 and isinstance(outcome, Transient):
            self._tokens.refused(token)
        return outcome

    async def aclose(self) -> None:
        """Finish what is in flight and close every connection."""
        await self._http.aclose()
        await self._tokens.aclose()


def _no_token(error: NoToken) -> Transient | ChannelFault:
    if error.lasting:
        return ChannelFault(
            reason=f"Google refuses the service account: {error}; renew service_account_path", code="OAuth"
        )
    return Transient(reason=f"not sent, no access token: {error}", code="OAuth")


def create(options: Mapping[str, str], *, clock: Callable[[], datetime] = utc_now) -> Fcm:
    """The connector for these options. Raises BadOptions."""
    read = Options("fcm", options)
    account = _account(read.needed_file("service_account_path"))
    project = read.text("project_id", account.get("project_id"))
    endpoint = read.text("endpoint", "https://fcm.googleapis.com").rstrip("/")
    ca_file, seconds = read.file("ca_file"), read.seconds("timeout", 10.0)
    read.done()
    try:
        fetch = fetcher(account, ca_file=ca_file, seconds=seconds, clock=clock)
    except (GoogleAuthError, ValueError) as error:
        raise BadOptions(f"fcm: option 'service_account_path': no service account ({error})") from error
    return Fcm(
        url=f"{endpoint}/v1/projects/{project}/messages:send",
        tokens=Tokens(fetch=fetch, clock=clock),
        http=Http(ca_file=ca_file, timeout=seconds, at_once=_CONNECTIONS),
        seconds=seconds,
        clock=clock,
    )


def _account(file: Path) -> dict[str, Any]:
    try:
        account = json.loads(file.read_bytes())
    except (OSError, ValueError) as error:
        raise BadOptions(f"fcm: option 'service_account_path': cannot read {file}: {error}") from error
    if not isinstance(account, dict):
        raise BadOptions(f"fcm: option 'service_account_path': {file} holds no JSON object")
    return account
