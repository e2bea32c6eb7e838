"""A mail relay: STARTTLS and login required, mails parsed, the delivery id taken from envelope and Message-ID.

The address of a fault and of a received row is the recipient's mailbox. A dead mailbox is refused at RCPT;
every other fault meets the mail when DATA has been read. A fault `status` says `<status> <reason>`.
"""

import asyncio
import hmac
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from email import message_from_bytes
from email.header import decode_header, make_header
from email.message import Message as Parsed
from functools import partial
from typing import cast

from aiosmtpd.smtp import SMTP, AuthResult, Envelope, LoginPassword, Session

from connectors.sandbox.desk import SILENT, Answer, Call, Desk, linger
from connectors.sandbox.faults import Fault

_USER, _PASSWORD = "sandbox", "sandbox-password"
_USUAL_WORDS = {
    421: "4.3.2 Service shutting down",
    451: "4.3.0 Temporary failure",
    452: "4.2.2 Mailbox full",
    550: "5.1.1 User unknown",
    552: "5.3.4 Message too big",
    554: "5.7.1 Rejected by policy",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class SmtpServer:
    """The relay; fulfils `Running`."""

    server: asyncio.Server
    connections: "set[_Connection]"
    port: int
    options: Mapping[str, str] = field(default_factory=dict[str, str])

    async def aclose(self) -> None:
        """Close the port and every connection, at once."""
        self.server.close()
        await asyncio.gather(*(connection.end() for connection in list(self.connections)))


async def start(desk: Desk, port: int = 0) -> SmtpServer:
    """Listen on 127.0.0.1. Raises OSError when the port is taken."""
    logging.getLogger("mail.log").setLevel(logging.ERROR)  # aiosmtpd warns of itself at every login
    loop, connections = asyncio.get_running_loop(), set["_Connection"]()
    server = await loop.create_server(partial(_Connection, desk, connections), "127.0.0.1", port)
    port = server.sockets[0].getsockname()[1]
    options = {
        "EVERPOST_CONNECTOR_SMTP_HOST": "127.0.0.1",
        "EVERPOST_CONNECTOR_SMTP_PORT": str(port),
        "EVERPOST_CONNECTOR_SMTP_TLS": "starttls",
        "EVERPOST_CONNECTOR_SMTP_CA_FILE": str(desk.certs.ca),
        "EVERPOST_CONNECTOR_SMTP_USERNAME": _USER,
        "EVERPOST_CONNECTOR_SMTP_PASSWORD": _PASSWORD,
        "EVERPOST_CONNECTOR_SMTP_SENDER": "Everpost <noreply@everpost.example>",
    }
    return SmtpServer(server=server, connections=connections, port=port, options=options)


class _Mail(Envelope):
    """A transaction: what the client has said, and the fault that meets it."""

    delivery_id: str = ""
    fault: Fault | None = None


class _Connection(SMTP):
    """One client."""

    def __init__(self, desk: Desk, connections: "set[_Connection]") -> None:
        super().__init__(
            _Handler(desk),
            hostname="localhost",
            ident="everpost sandbox",
            enable_SMTPUTF8=True,
            tls_context=desk.certs.server_context(),
            require_starttls=True,
            auth_required=True,
            authenticator=_authenticate,
            loop=asyncio.get_running_loop(),
        )
        self._connections = connections

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._connections.add(self)
        super().connection_made(transport)

    def connection_lost(self, error: Exception | None) -> None:
        self._connections.discard(self)
        super().connection_lost(error)

    def _create_envelope(self) -> Envelope:
        return _Mail()

    def _getparams(self, params: Sequence[str]) -> dict[str, str | bool] | None:
        """Parameters of MAIL, and ENVID, which aiosmtpd does not know, put aside."""
        found = super()._getparams(params)
        if found is not None and "ENVID" in found and isinstance(self.envelope, _Mail):
            self.envelope.delivery_id = str(found.pop("ENVID")).lower()  # aiosmtpd has made it upper case
        return found

    async def end(self) -> None:
        """Cut the connection and wait until nobody serves it."""
        task = self._handler_coroutine
        for transport in (self.transport, self._original_transport):
            if isinstance(transport, asyncio.WriteTransport):
                transport.abort()
        if task is not None:
            task.cancel()  # a failed handshake leaves it waiting; the others end by the abort
            await asyncio.wait([task])


def _authenticate(
    _server: SMTP, _session: Session, _envelope: Envelope, _mechanism: str, given: object
) -> AuthResult:
    right = LoginPassword(_USER.encode(), _PASSWORD.encode())
    login = isinstance(given, LoginPassword) and hmac.compare_digest(b"\0".join(given), b"\0".join(right))
    return AuthResult(success=login, handled=False)


class _Handler:
    """aiosmtpd's hooks; each returns the reply."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk

    async def handle_EHLO(  # noqa: N802
        self, _server: SMTP, session: Session, _mail: Envelope, hostname: str, offers: list[str]
    ) -> list[str]:
        session.host_name = hostname
        return [*offers[:-1], "250-ENHANCEDSTATUSCODES", "250-DSN", offers[-1]]

    async def handle_RCPT(  # noqa: N802
        self, _server: SMTP, _session: Session, mail: _Mail, address: str, _options: list[str]
    ) -> str:
        call = Call(provider="smtp", delivery_id=mail.delivery_id, address=address)
        mail.fault = self._desk.meet(call)
        if mail.fault is not None and mail.fault.kind == "dead":
            answer = Answer(status=550, reason="5.1.1 User unknown")
            self._desk.record(call, answer, mail.fault)
            return str(answer)
        mail.rcpt_tos.append(address)
        return "250 2.1.5 OK"

    async def handle_DATA(self, server: _Connection, _session: Session, mail: _Mail) -> str:  # noqa: N802
        call, fault = _read(mail), mail.fault
        answer = _answer(call, fault)
        self._desk.record(call, answer, fault)
        await linger(fault)
        if fault is not None and fault.kind in SILENT:
            if fault.kind != "never" and server.transport is not None:
                server.transport.close()
            await asyncio.Event().wait()  # cancelled when the connection is gone
        closing = answer.status == 421 or (fault is not None and fault.kind == "goaway")
        if closing and server.transport is not None:
            asyncio.get_running_loop().call_soon(server.transport.close)  # behind the reply
        return answer.body or str(answer)


def _answer(call: Call, fault: Fault | None) -> Answer:
    if fault is None or fault.kind != "status":
        return Answer(status=250, reason=f"2.0.0 Ok: queued as {call.delivery_id}", accepted=True)
    words = fault.reason or _USUAL_WORDS.get(fault.status, f"{fault.status // 100}.0.0 Scripted")
    return Answer(status=fault.status, reason=words, body=fault.body or "")


def _read(mail: _Mail) -> Call:
    """The mail as its reader sees it."""
    # Not by the newer policy: reading a header by its grammar took half of the relay's time.
    parsed = message_from_bytes(mail.original_content or b"")
    message_id = _header(parsed, "Message-ID")
    content = {"title": _header(parsed, "Subject"), "from": _header(parsed, "From")}
    content |= {
        name: _header(parsed, name)
        for name in ("List-Unsubscribe", "List-Unsubscribe-Post")
        if name in parsed
    }
    for part in parsed.walk():
        name = {"text/plain": "text", "text/html": "html"}.get(part.get_content_type())
        if name is not None and name not in content:
            words = cast("bytes", part.get_payload(decode=True)).decode(part.get_content_charset("utf-8"))
            content[name] = words.replace("\r\n", "\n").removesuffix("\n")
    return Call(
        provider="smtp",
        delivery_id=message_id.strip("<>").partition("@")[0],
        address=mail.rcpt_tos[0],
        content=content,
        identity={"message-id": message_id, "envid": mail.delivery_id},
    )


def _header(mail: Parsed, name: str) -> str:
    """A header's words: unfolded (RFC 5322, 2.2.3) and decoded (RFC 2047)."""
    value = str(mail[name] or "").replace("\r\n", "").replace("\n", "")
    return str(make_header(decode_header(value))) if "=?" in value else value
