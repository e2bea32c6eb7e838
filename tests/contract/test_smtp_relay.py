"""E-mail against relays that refuse, break off and mislead at every step of the dialogue."""

import asyncio
from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest

from connectors import smtp
from connectors.contract import (
    Accepted,
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
from connectors.sandbox.certs import Certs
from connectors.sandbox.faults import Fault
from connectors.smtp import Smtp
from tests.contract.rigs import TIMEOUT, bench, connector_options, delivery_id, until
from tests.contract.rigs_b import SMTP

GREETING = "220 relay ready"


@pytest.fixture(scope="module")
def certs(tmp_path_factory: pytest.TempPathFactory) -> Certs:
    """Keys and certificates, made once."""
    return Certs.at(tmp_path_factory.mktemp("certs"))


@dataclass(kw_only=True)
class Relay:
    """Says what the script has for a command, once each; then what a good relay says. `""` hangs up."""

    script: dict[str, list[str]]
    offers: tuple[str, ...] = ()
    heard: list[str] = field(default_factory=list[str])
    mails: list[bytes] = field(default_factory=list[bytes])
    connections: int = 0
    open: int = 0
    most: int = 0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One client."""
        self.connections += 1
        self.open += 1
        self.most = max(self.most, self.open)
        try:
            await self.dialogue(reader, writer)
        except (ConnectionError, asyncio.IncompleteReadError):
            return
        finally:
            self.open -= 1
            writer.transport.abort()

    async def dialogue(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Command and reply, until one side has enough."""
        verb, line = "GREETING", ""
        while verb != "QUIT":
            reply = self.reply(verb)
            if not reply:
                return
            writer.write(reply.encode() + b"\r\n")
            if reply.startswith("354"):
                self.mails.append(await reader.readuntil(b"\r\n.\r\n"))
                verb = "CONTENT"
                continue
            line = (await reader.readuntil(b"\r\n")).decode().strip()
            self.heard.append(line)
            verb = line.upper().split(" ")[0]
        writer.write(b"221 Bye\r\n")

    def reply(self, verb: str) -> str:
        """The scripted words, or the usual ones."""
        if self.script.get(verb):
            return self.script[verb].pop(0)
        usual = {"GREETING": GREETING, "DATA": "354 Go ahead", "CONTENT": "250 2.0.0 Ok: queued as A1"}
        hello = "".join(f"250-{line}\r\n" for line in ("relay", *self.offers)) + "250 HELP"
        return hello if verb == "EHLO" else usual.get(verb, "250 2.0.0 Ok")


@asynccontextmanager
async def relay(
    script: Mapping[str, list[str]] | None = None, *, offers: tuple[str, ...] = (), certs: Certs | None = None
) -> AsyncGenerator[tuple[Relay, int]]:
    """A relay with a script; yields it and its port."""
    found = Relay(script=dict(script or {}), offers=offers)
    tls = certs.server_context() if certs else None
    server = await asyncio.start_server(found.serve, "127.0.0.1", 0, ssl=tls)
    try:
        yield found, server.sockets[0].getsockname()[1]
    finally:
        server.close()
        await until(lambda: found.open == 0)


@asynccontextmanager
async def connector(port: int, **options: str) -> AsyncGenerator[Smtp]:
    """A connector that points at a local port, in the clear unless told otherwise."""
    defaults = {"host": "127.0.0.1", "port": str(port), "tls": "none", "timeout": str(TIMEOUT)}
    found = smtp.create(defaults | {"sender": "noreply@example.com"} | options)
    try:
        yield found
    finally:
        await found.aclose()


def message(number: int = 0, address: str = "ada@example.org") -> Message:
    """The n-th mail."""
    content = Content(title="Delayed", text="Gate B4")
    return Message(delivery_id=delivery_id(number), event_id="e", address=address, content=content)


@pytest.mark.parametrize(
    ("verb", "reply", "kind"),
    [
        ("GREETING", "554 No service", ChannelFault),
        ("GREETING", "421 Too busy", Transient),
        ("GREETING", "HTTP/1.1 400 Bad Request", Transient),
        ("GREETING", "", Transient),
        ("EHLO", "421 4.7.0 Too many connections", Throttled),
        ("EHLO", "", Transient),
        ("MAIL", "550 5.7.1 Sender not yours", ChannelFault),
        ("MAIL", "451 4.7.1 Slow down", Throttled),
        ("MAIL", "503 nested MAIL", Transient),
        ("MAIL", "what", Transient),
        ("MAIL", "", Transient),
        ("RCPT", "550 5.1.1 User unknown", InvalidAddress),
        ("RCPT", "452 4.2.2 Mailbox full", Transient),
        ("RCPT", "451 4.7.1 Greylisted", Throttled),
        ("RCPT", "421 4.3.2 Shutting down", Transient),
        ("RCPT", "", Transient),
        ("DATA", "451 4.3.0 No room", Transient),
        ("DATA", "554 5.7.1 No", Permanent),
        ("DATA", "503 need RCPT", Transient),
        ("CONTENT", "250 2.0.0 Ok", Accepted),
        ("CONTENT", "552 5.3.4 Too big", Permanent),
        ("CONTENT", "554 5.7.1 Spam", Permanent),
        ("CONTENT", "550 5.1.1 User unknown", InvalidAddress),
        ("CONTENT", "421 4.3.2 Shutting down", Transient),
        ("CONTENT", "what", Uncertain),
        ("CONTENT", "", Uncertain),
    ],
)
async def test_after_any_reply_the_next_mail_is_sent(verb: str, reply: str, kind: type[Outcome]) -> None:
    """Each reply has its outcome, one transaction is one mail, and the next one is not touched by it."""
    async with relay({verb: [reply]}) as (found, port), connector(port) as sending:
        outcome = await sending.send(message(0))
        assert type(outcome) is kind
        assert len(found.mails) == (verb == "CONTENT")
        assert isinstance(await sending.send(message(1)), Accepted)
        assert delivery_id(1).encode() in found.mails[-1]


@pytest.mark.parametrize(
    ("verb", "half"),
    [
        ("GREETING", "220-wait"),
        ("EHLO", "250-wait"),
        ("MAIL", "250-wait"),
        ("RCPT", "250-wait"),
        ("DATA", "451-wait"),
        ("CONTENT", "250-wait"),
    ],
)
async def test_a_cancel_at_any_step_harms_nobody(verb: str, half: str) -> None:
    """A half-done dialogue is closed: the next mails read only their own replies."""
    async with relay({verb: [half]}) as (found, port), connector(port, connections="1") as sending:
        task = asyncio.create_task(sending.send(message(0)))
        await until(lambda: not found.script[verb])
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        outcomes = await asyncio.gather(*(sending.send(message(number)) for number in range(1, 4)))
        assert all(isinstance(outcome, Accepted) for outcome in outcomes)
        assert found.connections == 2


async def test_a_timeout_closes_the_connection() -> None:
    """The reply that comes too late is nobody's."""
    async with relay({"RCPT": ["250-wait"]}) as (found, port), connector(port, timeout="0.2") as sending:
        assert isinstance(await sending.send(message(0)), Transient)
        assert isinstance(await sending.send(message(1)), Accepted)
        assert found.connections == 2


async def test_a_refused_mail_keeps_its_connection() -> None:
    """With RSET behind it: a dead mailbox costs no new handshake."""
    async with relay({"RCPT": ["550 5.1.1 User unknown"]}) as (found, port), connector(port) as sending:
        assert isinstance(await sending.send(message(0)), InvalidAddress)
        assert isinstance(await sending.send(message(1)), Accepted)
        assert found.connections == 1
        assert found.heard.index("RSET") < max(
            i for i, line in enumerate(found.heard) if line.startswith("MAIL")
        )


async def test_a_verdict_stands_though_the_relay_hangs_up_behind_it() -> None:
    """What the relay has said about the mailbox is not lost with its connection."""
    script = {"CONTENT": ["550 5.1.1 User unknown"], "RSET": [""]}
    async with relay(script) as (found, port), connector(port) as sending:
        assert isinstance(await sending.send(message(0)), InvalidAddress)
        assert isinstance(await sending.send(message(1)), Accepted)
        assert found.connections == 2


async def test_a_connection_that_died_while_idle_is_replaced() -> None:
    """A relay closes what is idle; the next mail goes over a new connection and is not lost."""
    async with relay({"QUIT": []}) as (found, port), connector(port) as sending:
        assert isinstance(await sending.send(message(0)), Accepted)
        found.script["MAIL"] = [""]  # hangs up on the first connection's next mail
        assert isinstance(await sending.send(message(1)), Transient)
        assert isinstance(await sending.send(message(2)), Accepted)
        assert len(found.mails) == 2


async def test_there_are_never_more_connections_than_allowed() -> None:
    """Relays count connections; a crowd of mails shares those that it may have."""
    async with relay() as (found, port), connector(port, connections="3") as sending:
        outcomes = await asyncio.gather(*(sending.send(message(number)) for number in range(30)))
        assert all(isinstance(outcome, Accepted) for outcome in outcomes)
        assert (found.most, found.connections, len(found.mails)) == (3, 3, 30)


async def test_a_connection_is_not_used_for_ever() -> None:
    """After a hundred mails it makes place for another relay behind the same name."""
    async with relay() as (found, port), connector(port, connections="1") as sending:
        for number in range(150):
            assert isinstance(await sending.send(message(number)), Accepted)
        assert found.connections == 2
        assert found.heard.count("QUIT") == 1


async def test_closing_says_goodbye() -> None:
    """No connection is left, and a late send is told so."""
    async with relay() as (found, port), connector(port) as sending:
        await asyncio.gather(*(sending.send(message(number)) for number in range(4)))
        await sending.aclose()
        await until(lambda: found.open == 0)
        assert found.heard.count("QUIT") == found.connections
        assert isinstance(await sending.send(message()), Transient)


async def test_the_envelope_names_the_delivery_where_the_relay_knows_dsn() -> None:
    """A bounce then carries it back (RFC 3461)."""
    async with relay(offers=("DSN",)) as (found, port), connector(port) as sending:
        await sending.send(message(7))
        assert f"MAIL FROM:<noreply@example.com> ENVID={delivery_id(7)}" in found.heard


async def test_a_mailbox_beyond_ascii_needs_a_relay_that_takes_it() -> None:
    """With SMTPUTF8 it goes out as it is; without it never can."""
    beyond = message(address="jürgen@example.org")
    async with relay(offers=("SMTPUTF8", "8BITMIME")) as (found, port), connector(port) as sending:
        assert isinstance(await sending.send(beyond), Accepted)
        assert "RCPT TO:<jürgen@example.org>" in found.heard
    async with relay() as (found, port), connector(port) as sending:
        assert isinstance(await sending.send(beyond), Permanent)
        assert not found.mails


async def test_lines_and_dots_arrive_as_they_were() -> None:
    """A line with a single dot ends no mail, and no bare line feed goes out (SMTP smuggling)."""
    tricky = Content(title="Delayed", text=".\n.\r\nMAIL FROM:<eve@example.org>\n..x\rend")
    async with relay() as (found, port), connector(port) as sending:
        assert isinstance(await sending.send(replace(message(), content=tricky)), Accepted)
    assert len(found.mails) == 1
    assert b"\n" not in found.mails[0].replace(b"\r\n", b"")
    assert b"\r" not in found.mails[0].replace(b"\r\n", b"")


async def test_tls_from_the_first_byte(certs: Certs) -> None:
    """Port 465's way."""
    async with (
        relay(certs=certs) as (found, port),
        connector(port, tls="tls", ca_file=str(certs.ca)) as sending,
    ):
        assert isinstance(await sending.send(message()), Accepted)
        assert len(found.mails) == 1


async def test_a_relay_without_starttls_gets_nothing() -> None:
    """Never in the clear when TLS was asked for."""
    async with relay() as (found, port), connector(port, tls="starttls") as sending:
        outcome = await sending.send(message())
        assert isinstance(outcome, ChannelFault)
        assert "tls" in outcome.reason
        assert not [line for line in found.heard if line.startswith("MAIL")]


@pytest.mark.parametrize("tls", ["tls", "starttls"])
async def test_an_untrusted_certificate_is_a_channel_fault(certs: Certs, tls: str, tmp_path: Path) -> None:
    """Neither password nor mail goes to somebody else's relay."""
    async with bench(SMTP, tmp_path / "certs") as ready, relay(certs=certs) as (found, port):
        options = connector_options(SMTP, ready.provider)
        del options["ca_file"]
        options |= {"tls": tls} | ({"port": str(port)} if tls == "tls" else {})
        sending = smtp.create(options)
        outcome = await sending.send(message())
        await sending.aclose()
        assert isinstance(outcome, ChannelFault)
        assert "ca_file" in outcome.reason
        assert (ready.requests, found.mails) == (0, [])


async def test_a_wrong_password_is_a_channel_fault(tmp_path: Path) -> None:
    """It pauses the channel and burns no mail."""
    async with bench(SMTP, tmp_path) as ready:
        sending = smtp.create(connector_options(SMTP, ready.provider) | {"password": "wrong"})
        outcome = await sending.send(message())
        await sending.aclose()
        assert isinstance(outcome, ChannelFault)
        assert ready.requests == 0


async def test_the_local_relay_understands_the_mail(tmp_path: Path) -> None:
    """Words, identity and unsubscribe headers arrive as the reader will see them."""
    headers = {"List-Unsubscribe": "<https://example.com/u?t=1>"}
    async with bench(SMTP, tmp_path) as ready:
        await ready.connector.send(replace(ready.message(), headers=headers))
        (row,) = ready.desk.recorder.rows()
        sent = ready.message()
    assert (row.content["title"], row.content["text"]) == (sent.content.title, sent.content.text)
    assert (row.content["html"], row.content["List-Unsubscribe"]) == (
        sent.content.html,
        headers["List-Unsubscribe"],
    )
    assert row.identity == {"message-id": f"<{sent.delivery_id}@everpost.example>", "envid": sent.delivery_id}


async def test_the_local_relay_speaks_the_script(tmp_path: Path) -> None:
    """A fault's status and words are its reply."""
    async with bench(SMTP, tmp_path) as ready:
        ready.fault(Fault(kind="status", status=421, times=1))
        ready.fault(Fault(kind="status", status=554, reason="5.7.1 Spam", times=1))
        outcomes = [await ready.send(number) for number in range(3)]
    assert [type(outcome) for outcome in outcomes] == [Transient, Permanent, Accepted]
