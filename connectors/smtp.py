"""E-mail through a relay by SMTP (RFC 5321), with aiosmtplib 5.1 over our own pool of connections.

One send is one transaction: MAIL, RCPT, DATA. The Message-ID is the same on every repeat, so that an
uncertain mail that comes twice can be recognised; the envelope carries the delivery id (ENVID, RFC 3461)
where the relay knows it, so that a bounce names its delivery.

Options: `host`, `sender` (`noreply@example.com` or `Name <noreply@example.com>`); and if the defaults do
not suit, `port`, `domain` (of Message-ID and EHLO; the sender's), `username`, `password`, `tls` (none,
starttls, tls), `ca_file`, `timeout` (seconds for a whole send), `connections`, and `dkim_key` (a PEM file, RSA or
Ed25519) with `dkim_selector`, when the relay does not sign.
"""

import asyncio
import re
import ssl
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from email.utils import parseaddr
from pathlib import Path
from typing import Literal

import aiosmtplib

from connectors._dkim import Dkim, load
from connectors._in_flight import InFlight
from connectors._mail import Mail, Sender, mailbox, to_mail
from connectors._options import Options, utc_now
from connectors._smtp_pool import Pool, Relay, Tls
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

Step = Literal["connect", "mail", "rcpt", "data"]

_ENHANCED = re.compile(r"([245]\.\d{1,3}\.\d{1,3})\b")
_DEAD = frozenset({"5.1.1", "5.1.2", "5.1.3", "5.1.6", "5.1.10", "5.2.1"})
_QUEUED = re.compile(r"queued as ([\w.-]+)")  # Postfix and those that imitate it
_DOMAIN = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9.-]{0,250}[A-Za-z0-9])?")
_PORTS: Mapping[Tls, int] = {"none": 25, "starttls": 587, "tls": 465}


@dataclass(frozen=True, slots=True, kw_only=True)
class Reply:
    """What the relay said, and to what."""

    step: Step
    code: int
    text: str

    @property
    def enhanced(self) -> str:
        """The enhanced status code (RFC 3463), or nothing."""
        found = _ENHANCED.match(self.text)
        return found[1] if found else ""

    @property
    def no_answer(self) -> bool:
        """It does not answer what we said: garbage, or the two sides have lost step. Close, and try again."""
        return not (400 <= self.code < 600) or 500 <= self.code <= 504


def to_outcome(reply: Reply) -> Outcome:
    """What a reply other than success means.

    Of a refusal at MAIL the sender is the subject, and it is the same for every mail.
    """
    status = reply.enhanced
    code = f"{reply.code} {status}".strip()
    if reply.no_answer:
        return Transient(reason="the relay and we have lost step", code=code)
    if reply.code in (530, 534, 535, 538) or status == "5.7.8":
        return ChannelFault(reason="the relay refuses the login; check username, password, tls", code=code)
    if reply.code < 500 and (status.startswith("4.7.") or status == "4.5.3"):
        return Throttled(reason="the relay asks for less, or lists us grey", code=code)
    if reply.code < 500:
        return Transient(reason="the relay cannot take the mail now", code=code)
    return _refusal(reply, status, code)


def _refusal(reply: Reply, status: str, code: str) -> Outcome:
    if reply.step == "connect":
        return ChannelFault(
            reason="the relay does not take mail from us; check host, port, domain", code=code
        )
    if reply.step == "mail":
        return ChannelFault(reason="the relay refuses our sender; check sender, username", code=code)
    if status in _DEAD:
        return InvalidAddress(reason="the mailbox does not exist or takes nothing", code=code)
    if status == "5.2.2":
        return Permanent(reason="the mailbox is full", code=code)
    return Permanent(reason="the relay refuses the mail", code=code)


def failed(error: Exception, step: Step) -> Outcome:
    """What an error means at this step."""
    code = type(error).__name__
    if isinstance(error, aiosmtplib.SMTPResponseException):
        if step == "data" and error.code < 400:
            return Uncertain(reason="the answer to DATA cannot be read, the mail may be sent", code=code)
        return to_outcome(Reply(step=step, code=error.code, text=error.message))
    if step == "data":
        return Uncertain(reason="the answer to DATA is lost, the mail may be sent", code=code)
    if any(isinstance(one, ssl.SSLCertVerificationError) for one in (error, error.__cause__)):
        return ChannelFault(
            reason="the relay's certificate is not trusted; check host and ca_file", code=code
        )
    if isinstance(error, OSError):  # aiosmtplib's own as well: cannot connect, disconnected, timed out
        return Transient(reason=f"not sent: {code}", code=code)
    return ChannelFault(
        reason="the relay does not offer what the options ask; check tls, username", code=code
    )


@dataclass(slots=True, kw_only=True)
class _Progress:
    """How far a send has come."""

    step: Step = "connect"
    verdict: Outcome | None = None  # the relay's, whatever happens afterwards


class Smtp:
    """The connector. Make it inside the running event loop."""

    name = "smtp"

    def __init__(self, *, pool: Pool, sender: Sender, timeout: float, clock: Callable[[], datetime]) -> None:
        self.capacity = pool.size
        self._pool = pool
        self._sender = sender
        self._timeout = timeout
        self._clock = clock
        self._in_flight = InFlight()

    async def send(self, message: Message) -> Outcome:
        """One transaction."""
        mail = to_mail(message, self._sender, self._clock())
        if not isinstance(mail, Mail):
            return mail
        if self._in_flight.closed:
            return Transient(reason="not sent: the connector is closed", code="closed")
        progress = _Progress()
        try:
            with self._in_flight:
                async with asyncio.timeout(self._timeout), self._pool.lease() as smtp:
                    return await self._transact(smtp, mail, message.delivery_id, progress)
        except (aiosmtplib.SMTPException, OSError) as error:
            return progress.verdict or failed(error, progress.step)

    async def _transact(
        self, smtp: aiosmtplib.SMTP, mail: Mail, delivery_id: str, progress: _Progress
    ) -> Outcome:
        """MAIL, RCPT, DATA. Raises when the connection can't be used again."""
        if mail.utf8 and not smtp.supports_extension("smtputf8"):
            return Permanent(reason="the mailbox is not ASCII and the relay has no SMTPUTF8", code="smtputf8")
        encoding = "utf-8" if mail.utf8 else "ascii"
        try:
            progress.step = "mail"
            await smtp.mail(
                self._sender.mailbox, options=_options(smtp, mail, delivery_id), encoding=encoding
            )
            progress.step = "rcpt"
            await smtp.rcpt(mail.recipient, encoding=encoding)
            progress.step = "data"
            reply = await smtp.data(mail.content)
        except aiosmtplib.SMTPResponseException as error:
            progress.verdict = failed(error, progress.step)
            if error.code == 421 or Reply(step=progress.step, code=error.code, text="").no_answer:
                raise
            await smtp.rset()
            return progress.verdict
        found = _QUEUED.search(reply.message)
        return Accepted(provider_id=found[1] if found else "")

    async def aclose(self) -> None:
        """Let what is in flight finish, then close every connection."""
        await self._in_flight.drained()
        await self._pool.aclose()


def _options(smtp: aiosmtplib.SMTP, mail: Mail, delivery_id: str) -> list[str]:
    """Parameters of MAIL."""
    options = [f"ENVID={delivery_id}"] if smtp.supports_extension("dsn") else []
    return [*options, "BODY=8BITMIME", "SMTPUTF8"] if mail.utf8 else options


def create(options: Mapping[str, str]) -> Smtp:
    """The connector for these options. Raises BadOptions."""
    given = Options("smtp", options)
    tls = _tls(given.text("tls", "starttls"))
    host, port = given.text("host"), given.number("port", _PORTS[tls])
    sender = _sender(given.text("sender"), given.text("domain", ""))
    dkim_key, selector = given.file("dkim_key"), given.text("dkim_selector", "")
    username, password = given.text("username", ""), given.text("password", "")
    ca_file = given.file("ca_file")
    timeout, connections = given.seconds("timeout", 10.0), given.number("connections", 20)
    given.done()
    if bool(username) != bool(password):
        raise BadOptions("smtp: set both 'username' and 'password', or neither")
    if username and tls == "none":
        raise BadOptions("smtp: with tls=none the password would go out in the clear; set tls or no username")
    sender = replace(sender, dkim=_signer(sender, dkim_key, selector))
    relay = Relay(
        host=host,
        port=port,
        tls=tls,
        context=ssl.create_default_context(cafile=ca_file),
        username=username or None,
        password=password or None,
        domain=sender.domain,
        timeout=timeout,
    )
    return Smtp(pool=Pool(relay, connections), sender=sender, timeout=timeout, clock=utc_now)


def _signer(sender: Sender, key: Path | None, selector: str) -> Dkim | None:
    """Who signs; by the domain in From, so that DMARC counts it (RFC 7489, 3.1.1). Raises BadOptions."""
    if (key is None) != (not selector):
        raise BadOptions("smtp: set both 'dkim_key' and 'dkim_selector', or neither")
    return key and load(key, domain=sender.mailbox.rpartition("@")[2], selector=selector)


def _tls(text: str) -> Tls:
    for known in _PORTS:
        if text == known:
            return known
    raise BadOptions(f"smtp: option 'tls' is {text!r}; set none, starttls or tls")


def _sender(text: str, domain: str) -> Sender:
    """Raises BadOptions when it is no sender: a mailbox in ASCII, with or without a name."""
    name, address = parseaddr(text)
    if not mailbox(address) or not address.isascii() or not text.isprintable():
        raise BadOptions(
            f"smtp: option 'sender' is {text!r}; set it to name@example.com or Name <name@example.com>"
        )
    domain = domain or address.rpartition("@")[2]
    if not _DOMAIN.fullmatch(domain):
        raise BadOptions(
            f"smtp: option 'domain' is {domain!r}; set it to a host name such as mail.example.com"
        )
    return Sender(mailbox=address, name=name, domain=domain)
