"""What a connector is: one `send` is one request, and its answer is one of seven outcomes.

Standard library only. A connector never retries, sleeps or queues; every call has a timeout, and no
exception leaves `send` but `asyncio.CancelledError`. The pipeline alone owns retry, back-off and
Retry-After.

A connector module offers `create(options) -> Connector`, called inside the running event loop, and is
named in `pyproject.toml` under the entry-point group `everpost.connectors`. `options` are strings;
a missing or malformed one raises `BadOptions` with the option's name and what to set.

Where a provider tells later what became of a message, the module also offers `create_receiver(options) -> Receiver`,
with the same options. It opens nothing: the pipeline listens, and hands it each callback.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Literal, Protocol

SILENT = "none"


@dataclass(frozen=True, slots=True, kw_only=True)
class Content:
    """The rendered words. Which parts a channel uses: push title, text, link, image, sound, badge; SMS text;
    e-mail title (the subject), text, html.
    """

    title: str = ""
    text: str = ""
    html: str | None = None
    link: str | None = None
    image: str | None = None
    sound: str | None = None  # a file of the app; SILENT for none; None for the platform's usual one
    badge: int | None = None  # the number on the app's icon; 0 takes it away, None leaves it


@dataclass(frozen=True, slots=True, kw_only=True)
class Message:
    """One rendered message for one address."""

    delivery_id: str  # lower-case UUID: apns-id, client_ref, Message-ID; the same on every repeat
    event_id: str
    address: str  # device token, E.164, mailbox, or Web Push subscription JSON; never logged
    registered_at: datetime | None = None  # of the address; an older 410 does not count
    content: Content
    urgent: bool = False
    time_to_live: timedelta = timedelta(hours=24)  # how long the provider may keep trying
    collapse_key: str | None = None
    headers: Mapping[str, str] = field(default_factory=dict[str, str])  # e-mail only


@dataclass(frozen=True, slots=True, kw_only=True)
class Accepted:
    """The provider took the message; only a receipt proves that it arrived."""

    provider_id: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Permanent:
    """This message can never go out: a defect of the request, or policy."""

    reason: str
    code: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class InvalidAddress:
    """The token, number, mailbox or subscription is dead."""

    reason: str
    code: str = ""
    since: datetime | None = (
        None  # when the provider last knew it to be dead; a later registration counts more
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Transient:
    """Not processed, may work later."""

    reason: str
    code: str = ""
    retry_after: timedelta | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Throttled:
    """The provider asks for less."""

    reason: str
    code: str = ""
    retry_after: timedelta | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Uncertain:
    """The request was written and the answer is lost: timeout, reset, hang-up after the write."""

    reason: str
    code: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class ChannelFault:
    """Credential, credit or configuration of the whole channel: pause it, burn no message."""

    reason: str  # names the fix
    code: str = ""


Outcome = Accepted | Permanent | InvalidAddress | Transient | Throttled | Uncertain | ChannelFault


class BadOptions(Exception):
    """An option of `create` is missing or malformed; the message names it and says what to set."""


class Connector(Protocol):
    """A way to one provider."""

    name: str  # apns, fcm, webpush, vonage, twilio, smtp, webhook: goes into outcomes and metrics
    capacity: int  # sends worked on at once; more would wait inside, against their own timeout

    async def send(self, message: Message) -> Outcome:
        """Make exactly one request (or none, when it is clear beforehand) and say what came of it."""
        ...

    async def aclose(self) -> None:
        """Finish what is in flight and close every connection."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Callback:
    """A request that a provider made to us, as it came."""

    query: str  # of the address, still encoded, without the question mark
    headers: Mapping[str, str]  # names in lower case
    body: bytes


Fate = Literal[
    "under_way",  # the provider has it
    "delivered",  # the phone has it
    "failed",  # it will not arrive
    "dead_address",  # nor will anything else at this address
    "opted_out",  # the recipient has told the provider to stop
    "complained",  # the recipient has called it unwanted
]


@dataclass(frozen=True, slots=True, kw_only=True)
class Receipt:
    """What became of a message that the provider had taken."""

    delivery_id: str
    fate: Fate
    code: str = ""  # the provider's own
    facts: Mapping[str, str] = field(
        default_factory=dict[str, str]
    )  # as they came, but no address and no words


class Forged(Exception):
    """The callback is not the provider's, or cannot be read; the message says what to check."""


class Receiver(Protocol):
    """Reads what one provider tells us."""

    def read(self, callback: Callback) -> Receipt | None:
        """What it says; None when it is about no delivery of ours. Raises Forged. Pure."""
        ...
