"""A message as the bytes of a mail (RFC 5322, RFC 2045), ready for DATA.

Everything that becomes a header or an address is refused when it holds a control character or a line
break of any kind: Python 3.11.7's email package lets some through (CVE-2026-1299).
"""

import re
from base64 import encodebytes
from binascii import b2a_qp
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from email.header import Header
from email.mime.base import MIMEBase
from email.mime.multipart import MIMEMultipart
from email.mime.nonmultipart import MIMENonMultipart
from email.policy import compat32
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
_PLAIN_TITLE = re.compile(
    "(?!.*=[?])[!-~]{1,60}(?: [!-~]{1,60})*"
)  # to be folded at its spaces, without a trace
_BOUNDARY = "=_everpost_alternative"  # "=_" is in no quoted-printable and in no base64 (RFC 2045, 6.7)
_POLICY = compat32.clone(linesep="\r\n", mangle_from_=False)


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
        "Subject": _subject(message.content.title),
        **message.headers,
    }
    lines = "".join(f"{name}: {value}\r\n" for name, value in head.items())
    try:
        content = lines.encode() + _parts(message)
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


def _subject(title: str) -> str:
    """As it is, or in encoded words (RFC 2047); folded when it is long."""
    if not title:
        return ""
    charset = "us-ascii" if _PLAIN_TITLE.fullmatch(title) else "utf-8"
    return Header(title, charset, header_name="Subject").encode(linesep="\r\n")


def _parts(message: Message) -> bytes:
    """The parts. Raises UnicodeEncodeError.

    By the email package's older classes: the newer ones read each header that they write by its grammar, which
    took half a millisecond of a mail's one and a half.
    """
    text, html = message.content.text, message.content.html
    mail: MIMEBase = _part(text, "plain")
    if html is not None:
        mail = MIMEMultipart("alternative", boundary=_BOUNDARY, _subparts=[mail, _part(html, "html")])
    return mail.as_bytes(policy=_POLICY)


def _part(text: str, subtype: str) -> MIMEBase:
    """A text in the shortest encoding of seven bits, so that no relay has to know 8BITMIME."""
    part = MIMENonMultipart("text", subtype, charset="utf-8")
    part["Content-Transfer-Encoding"], body = _encoded(text.encode().splitlines())
    part.set_payload(body.decode())
    return part


def _encoded(lines: Sequence[bytes]) -> tuple[str, bytes]:
    """The name of the encoding and what it makes of the lines."""
    whole = b"\r\n".join([*lines, b""])
    # SMTP forbids NUL (RFC 5321, 4.5.2); nothing in base64 looks like the boundary.
    if b"\0" in whole or _BOUNDARY.encode() in whole:
        return "base64", encodebytes(whole)
    if whole.isascii() and max(map(len, lines), default=0) <= _MAX_LINE:
        return "7bit", whole
    quoted, other = b2a_qp(whole), encodebytes(whole)
    return ("quoted-printable", quoted) if len(quoted) <= len(other) else ("base64", other)
