"""E-mail: what a relay's reply means, and which options are refused."""

import ssl
from typing import Any

import aiosmtplib
import pytest
from hypothesis import given
from hypothesis import strategies as st

from connectors.contract import (
    Accepted,
    BadOptions,
    ChannelFault,
    InvalidAddress,
    Outcome,
    Permanent,
    Throttled,
    Transient,
    Uncertain,
)
from connectors.smtp import Reply, Step, create, failed, to_outcome

STEPS: tuple[Step, ...] = ("connect", "mail", "rcpt", "data")


@pytest.mark.parametrize(
    ("step", "code", "text", "kind"),
    [
        ("rcpt", 550, "5.1.1 User unknown", InvalidAddress),
        ("rcpt", 553, "5.1.2 Host unknown", InvalidAddress),
        ("rcpt", 553, "5.1.3 Bad syntax", InvalidAddress),
        ("rcpt", 550, "5.1.6 Moved", InvalidAddress),
        ("rcpt", 550, "5.1.10 Null MX", InvalidAddress),
        ("rcpt", 550, "5.2.1 Disabled", InvalidAddress),
        ("data", 550, "5.1.1 User unknown", InvalidAddress),
        ("rcpt", 550, "5.1.15 no such code", Permanent),  # not 5.1.1
        ("rcpt", 550, "no enhanced code", Permanent),
        ("rcpt", 552, "5.2.2 Mailbox full", Permanent),
        ("rcpt", 452, "4.2.2 Mailbox full", Transient),
        ("rcpt", 450, "4.2.1 Mailbox busy", Transient),
        ("rcpt", 451, "4.3.0 Temporary failure", Transient),
        ("data", 451, "4.4.1 No answer from host", Transient),
        ("rcpt", 451, "no enhanced code", Transient),
        ("mail", 421, "4.3.2 Shutting down", Transient),
        ("connect", 421, "Too busy", Transient),
        ("rcpt", 451, "4.7.1 Greylisted, try again in 300 seconds", Throttled),
        ("rcpt", 450, "4.7.0 Slow down", Throttled),
        ("mail", 421, "4.7.28 Unusual rate", Throttled),
        ("rcpt", 452, "4.5.3 Too many recipients", Throttled),
        ("data", 552, "5.3.4 Too big", Permanent),
        ("data", 554, "5.6.0 Content", Permanent),
        ("rcpt", 550, "5.7.1 Policy", Permanent),
        ("data", 554, "5.7.1 Spam", Permanent),
        ("mail", 530, "5.7.0 Authentication required", ChannelFault),
        ("connect", 535, "5.7.8 Credentials invalid", ChannelFault),
        ("connect", 538, "Encryption required", ChannelFault),
        ("connect", 454, "4.7.0 Temporary authentication failure", Throttled),
        ("connect", 554, "No SMTP service here", ChannelFault),
        ("mail", 550, "5.7.1 Sender not yours", ChannelFault),
        ("mail", 553, "5.1.8 Sender's domain unknown", ChannelFault),
        ("mail", 550, "5.1.1 Sender unknown", ChannelFault),  # never the recipient's fault
        ("rcpt", 500, "Command not recognised", Transient),
        ("rcpt", 501, "Syntax", Transient),
        ("mail", 502, "Not implemented", Transient),
        ("mail", 503, "nested MAIL", Transient),
        ("data", 504, "Parameter", Transient),
        ("mail", -1, "garbage", Transient),
        ("rcpt", 354, "Go ahead", Transient),
    ],
)
def test_each_reply_has_its_outcome(step: Step, code: int, text: str, kind: type[Outcome]) -> None:
    """RFC 5321 and RFC 3463; a reply to the wrong command is no verdict on the mail."""
    assert type(to_outcome(Reply(step=step, code=code, text=text))) is kind


@given(st.sampled_from(STEPS), st.integers(-1, 999), st.text())
def test_no_refusal_is_an_acceptance_or_uncertain(step: Step, code: int, text: str) -> None:
    """Every reply is a verdict, none raises, and only the recipient's steps can drop an address."""
    outcome = to_outcome(Reply(step=step, code=code, text=text))
    assert not isinstance(outcome, Accepted | Uncertain)
    if isinstance(outcome, InvalidAddress):
        assert step in ("rcpt", "data")
        assert code >= 500


@pytest.mark.parametrize(
    ("error", "step", "kind"),
    [
        (aiosmtplib.SMTPConnectError("refused"), "connect", Transient),
        (aiosmtplib.SMTPConnectTimeoutError("slow"), "connect", Transient),
        (aiosmtplib.SMTPConnectResponseError(554, "no"), "connect", ChannelFault),
        (aiosmtplib.SMTPHeloError(550, "who are you"), "connect", ChannelFault),
        (aiosmtplib.SMTPException("STARTTLS not supported"), "connect", ChannelFault),
        (aiosmtplib.SMTPAuthenticationError(535, "5.7.8 no"), "connect", ChannelFault),
        (ssl.SSLCertVerificationError("self-signed"), "connect", ChannelFault),
        (ssl.SSLError("no TLS"), "connect", Transient),
        (TimeoutError(), "connect", Transient),
        (aiosmtplib.SMTPServerDisconnected("gone"), "mail", Transient),
        (aiosmtplib.SMTPReadTimeoutError("slow"), "rcpt", Transient),
        (aiosmtplib.SMTPRecipientRefused(550, "5.1.1 no", "a@b"), "rcpt", InvalidAddress),
        (aiosmtplib.SMTPSenderRefused(550, "5.7.1 no", "a@b"), "mail", ChannelFault),
        (aiosmtplib.SMTPDataError(554, "5.7.1 spam"), "data", Permanent),
        (aiosmtplib.SMTPDataError(251, "what"), "data", Uncertain),
        (aiosmtplib.SMTPResponseException(-1, "garbage"), "data", Uncertain),
        (aiosmtplib.SMTPServerDisconnected("gone"), "data", Uncertain),
        (aiosmtplib.SMTPReadTimeoutError("slow"), "data", Uncertain),
        (ConnectionResetError(), "data", Uncertain),
        (TimeoutError(), "data", Uncertain),
    ],
)
def test_each_error_has_its_outcome(error: Exception, step: Step, kind: type[Outcome]) -> None:
    """Before DATA nothing is sent; afterwards only the relay's own words tell."""
    assert type(failed(error, step)) is kind


def test_every_exception_of_the_library_is_known() -> None:
    """A release that adds an exception makes this fail, so that somebody places it."""
    found = {name for name in dir(aiosmtplib) if name.startswith("SMTP") and isinstance_of_exception(name)}
    assert found == {
        "SMTPAuthenticationError", "SMTPConnectError", "SMTPConnectResponseError", "SMTPConnectTimeoutError",
        "SMTPDataError", "SMTPException", "SMTPHeloError", "SMTPNotSupported", "SMTPReadTimeoutError",
        "SMTPRecipientRefused", "SMTPRecipientsRefused", "SMTPResponseException", "SMTPSenderRefused",
        "SMTPServerDisconnected", "SMTPTimeoutError",
    }  # fmt: skip


def isinstance_of_exception(name: str) -> bool:
    """Whether the library's name is an exception class."""
    found: Any = getattr(aiosmtplib, name)
    return isinstance(found, type) and issubclass(found, Exception)


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"host": ""}, "host"),
        ({"sender": "nobody"}, "sender"),
        ({"dkim_selector": "s1"}, "both 'dkim_key' and 'dkim_selector'"),
        ({"dkim_key": "/nowhere.pem", "dkim_selector": "s1"}, "dkim_key"),
        ({"sender": "a@b.example\r\nBcc: x@y.example"}, "sender"),
        ({"sender": "jürgen@example.com"}, "sender"),
        ({"domain": "a b"}, "domain"),
        ({"tls": "ssl"}, "tls"),
        ({"username": "u"}, "password"),
        ({"username": "u", "password": "p", "tls": "none"}, "tls"),
    ],
)
async def test_wrong_options_are_named(changes: dict[str, str], named: str) -> None:
    """An option that cannot work stops the start, and the message says which."""
    with pytest.raises(BadOptions, match=f"(?i){named}"):
        create({"host": "127.0.0.1", "sender": "Everpost <noreply@example.com>"} | changes)
