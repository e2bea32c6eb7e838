"""A message as the bytes of a mail (RFC 5322, RFC 2045), ready for DATA.

Everything that becomes a header or an address is refused when it holds a control character or a line
break of any kind: Python 3.11.7's email package lets some through (CVE-2026-1299).
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from email.message import EmailMessage
from email.policy import SMTP
from email.utils import format_datetime, formataddr

from connectors._dkim import Dkim
from connectors.contract import InvalidAddress, Message, Outcome, Permanent

# Controls of ASCII and Latin-1 but the tab, Unicode's line and paragraph separators, lone surrogates.
_FORBIDDEN = re.compile("[\x00-\x08\x0a-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")
_FIELD_NAME = re.compile(r"[!-9;-~]{1,76}")  # RFC 5322, 3.6.8
_MAILBOX = re.compile(r"""[^\s@<>()\[\],;:\\"]{1,64}@[^\s@<>()\[\],;:\\"]{1,255}""")
_OURS = frozenset(
    {
        *("from", "to", "cc", "bcc", "sender", "subject", "date", "message-id", "mime-version"),
        *("return-path", "received", "dkim-signature"),
    }
)
_MAX_LINE = 998  # characters in a line, RFC 5322, 2.1.1
# 7bit: quoted-printable or base64, whichever is shorter, so that no relay has to know 8BITMIME.
_POLICY = SMTP.clone(cte_type="7bit")


@dataclass(frozen=True, slots=True, kw_only=True)
class Sender:
    """Who writes: the same for every mail of a channel."""

    mailbox: str
    name: str = ""
    domain: str  # of Message-ID
    dkim: Dkim | None = None  # None: the relay signs, or nobody

    @property
    def header(self) -> str:
        """The value of From."""
        return formataddr((self.name, self.mailbox)) if self.name else self.mailbox


@dataclass(frozen=True, slots=True, kw_only=True)
class Mail:
    """One mail for one mailbox."""

    recipient: str
    content: bytes
    utf8: bool  # the mailbox is not ASCII, so the relay must know SMTPUTF8 (RFC 6531)


def to_mail(message: Message, sender: Sender, now: datetime) -> Mail | Outcome:
    """The mail for a message, or why there can be none."""
    recipient = message.address
    if not mailbox(recipient):
        return InvalidAddress(reason="the address is no mailbox", code="malformed")
    refused = _refused(message.content.title, message.headers)
    if refused:
        return Permanent(reason=refused, code="header")
    # Written as they are: the email package would fold a long List-Unsubscribe into encoded words.
    head = {
        "Message-ID": f"<{message.delivery_id}@{sender.domain}>",
        "Date": format_datetime(now),
        "From": sender.header,
        "To": recipient,
        **message.headers,
    }
    lines = "".join(f"{name}: {value}\r\n" for name, value in head.items())
    try:
        content = lines.encode() + _rest(message)
    except UnicodeEncodeError:
        return Permanent(reason="the words hold a lone surrogate, which no encoding has", code="text")
    if sender.dkim is not None:
        content = sender.dkim.sign(content, now) + content
    return Mail(recipient=recipient, content=content, utf8=not recipient.isascii())


def mailbox(text: str) -> bool:
    """Whether this is `local@domain`, with nothing that could change an SMTP command or a header."""
    return len(text) <= 254 and _MAILBOX.fullmatch(text) is not None and not _FORBIDDEN.search(text)


def _refused(title: str, headers: Mapping[str, str]) -> str | None:
    """What is wrong with the headers; the reason never repeats a value."""
    if _FORBIDDEN.search(title):
        return "the title holds a line break or a control character"
    for name, value in headers.items():
        if not _FIELD_NAME.fullmatch(name):
            return "a header has a malformed name"
        if name.lower() in _OURS or name.lower().startswith(("content-", "resent-")):
            return f"header {name} is not the caller's to set"
        if _FORBIDDEN.search(value) or not value.isascii():
            return f"header {name} holds a line break, a control or a non-ASCII character"
        if len(name) + 2 + len(value) > _MAX_LINE:
            return f"header {name} is longer than {_MAX_LINE} characters"
    return None


def _rest(message: Message) -> bytes:
    """Subject and parts. Raises UnicodeEncodeError."""
    mail = EmailMessage(_POLICY)
    mail["Subject"] = message.content.title
    text, html = message.content.text, message.content.html
    mail.set_content(text, cte=_encoding(text))
    if html is not None:
        mail.add_alternative(html, subtype="html", cte=_encoding(html))
    return mail.as_bytes()


def _encoding(text: str) -> str | None:
    """Base64 for what is no text to SMTP (RFC 5321 forbids NUL); else the package's own choice."""
    return "base64" if "\0" in text else None
