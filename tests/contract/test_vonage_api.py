"""Vonage against providers that misbehave below HTTP: what was written decides between later and never."""

import asyncio
import logging
import ssl
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from connectors import vonage
from connectors.contract import (
    Accepted,
    ChannelFault,
    Content,
    Message,
    Outcome,
    Permanent,
    Transient,
    Uncertain,
)
from connectors.sandbox.certs import Certs
from connectors.sandbox.faults import Fault
from connectors.sandbox.vonage import parts
from connectors.vonage import Vonage
from tests.contract.rigs import TIMEOUT, Bench, bench, delivery_id
from tests.contract.rigs_b import VONAGE

Speak = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@pytest.fixture(scope="module")
def certs(tmp_path_factory: pytest.TempPathFactory) -> Certs:
    """Keys and certificates, made once."""
    return Certs.at(tmp_path_factory.mktemp("certs"))


def message(number: int = 0) -> Message:
    """The n-th SMS."""
    return Message(
        delivery_id=delivery_id(number),
        event_id="e",
        address="+447700900000",
        content=Content(text="Gate B4"),
    )


def connector(port: int, ca: Path | None, *, connections: int = 4) -> Vonage:
    """A connector that points at a local port."""
    options = {"api_key": "k", "api_secret": "s", "sender": "Everpost", "host": "127.0.0.1"}
    options |= {"port": str(port), "timeout": str(TIMEOUT), "connections": str(connections)}
    return vonage.create(options | ({"ca_file": str(ca)} if ca else {}))


@asynccontextmanager
async def provider(speak: Speak, tls: ssl.SSLContext | None) -> AsyncGenerator[int]:
    """A server that says what it wants; yields its port."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await speak(reader, writer)
        except (ConnectionError, asyncio.IncompleteReadError, TimeoutError):
            return
        finally:
            writer.transport.abort()

    server = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=tls)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()


async def send_to(speak: Speak, tls: ssl.SSLContext | None, ca: Path) -> Outcome:
    """One SMS to such a server."""
    async with provider(speak, tls) as port:
        sms = connector(port, ca)
        try:
            return await sms.send(message())
        finally:
            await sms.aclose()


async def read_request(reader: asyncio.StreamReader) -> bytes:
    """The whole POST."""
    head = await reader.readuntil(b"\r\n\r\n")
    length = int(head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0])
    return head + await reader.readexactly(length)


async def test_a_handshake_that_never_ends_is_transient(certs: Certs) -> None:
    """A port that accepts and says nothing has not got the SMS, so it may be tried again."""

    async def silent(reader: asyncio.StreamReader, _writer: asyncio.StreamWriter) -> None:
        await asyncio.wait_for(reader.read(100_000), 5)
        await reader.read(1)

    outcome = await send_to(silent, None, certs.ca)
    assert isinstance(outcome, Transient)


async def test_a_server_without_tls_is_transient(certs: Certs) -> None:
    """Nothing was written to it."""

    async def plain(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n")
        await writer.drain()

    assert isinstance(await send_to(plain, None, certs.ca), Transient)


async def test_an_untrusted_certificate_is_a_channel_fault(certs: Certs) -> None:
    """No SMS and no password goes to somebody else's server, and no message is burnt for it."""
    got: list[bytes] = []

    async def curious(reader: asyncio.StreamReader, _writer: asyncio.StreamWriter) -> None:
        got.append(await reader.read(10))

    async with provider(curious, certs.server_context()) as port:
        sms = connector(port, None)
        outcome = await sms.send(message())
        await sms.aclose()
    assert isinstance(outcome, ChannelFault)
    assert "ca_file" in outcome.reason
    assert not any(got)


@pytest.mark.parametrize(
    "answer",
    [
        b"",
        b"\x16\x03garbage\r\n\r\n",
        b"HTTP/1.1 200 OK\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 500\r\n\r\n{",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nZZ\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 3\r\n\r\nabc",
        b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nabc",
    ],
)
async def test_a_broken_answer_is_uncertain_and_one_request(certs: Certs, answer: bytes) -> None:
    """After the write only an answer that can be read is a verdict."""
    requests: list[bytes] = []

    async def broken(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        requests.append(await read_request(reader))
        writer.write(answer)
        await writer.drain()

    assert isinstance(await send_to(broken, certs.server_context(), certs.ca), Uncertain)
    assert len(requests) == 1


async def test_a_redirect_is_not_followed(certs: Certs) -> None:
    """307 would post SMS and password to wherever it points."""
    requests: list[bytes] = []

    async def elsewhere(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            requests.append(await read_request(reader))
            writer.write(b"HTTP/1.1 307 x\r\nLocation: /sms/json\r\nContent-Length: 0\r\n\r\n")
            await writer.drain()

    assert isinstance(await send_to(elsewhere, certs.server_context(), certs.ca), ChannelFault)
    assert len(requests) == 1


async def test_an_answer_that_drips_ends_by_the_timeout(certs: Certs) -> None:
    """A byte now and then keeps a socket awake, but no send: its time is up in all."""

    async def drip(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_request(reader)
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n")
        for _ in range(100):
            writer.write(b" ")
            await writer.drain()
            await asyncio.sleep(0.1)

    async with asyncio.timeout(3 * TIMEOUT):
        assert isinstance(await send_to(drip, certs.server_context(), certs.ca), Uncertain)


async def test_without_a_free_connection_nothing_is_sent(certs: Certs) -> None:
    """A silent provider holds every connection: who waited in vain for one is told so, and is not sent later."""
    requests: list[bytes] = []

    async def silent(reader: asyncio.StreamReader, _writer: asyncio.StreamWriter) -> None:
        requests.append(await read_request(reader))
        await reader.read(1)

    async with provider(silent, certs.server_context()) as port:
        sms = connector(port, certs.ca, connections=2)
        outcomes = await asyncio.gather(*(sms.send(message(number)) for number in range(6)))
        await sms.aclose()
    kinds = sorted(type(outcome).__name__ for outcome in outcomes)
    assert kinds == ["Transient"] * 4 + ["Uncertain"] * 2
    assert len(requests) == 2


@asynccontextmanager
async def sandbox(certs: Certs) -> AsyncGenerator[Bench]:
    """The local Vonage and a connector."""
    async with bench(VONAGE, certs.directory) as ready:
        yield ready


async def test_a_closed_connector_refuses(certs: Certs) -> None:
    """A late send is told so, and raises nothing."""
    async with sandbox(certs) as ready:
        await ready.connector.aclose()
        assert isinstance(await ready.send(), Transient)


async def test_wrong_credentials_are_a_channel_fault(certs: Certs) -> None:
    """401 pauses the channel."""
    async with sandbox(certs) as ready:
        sms = connector(ready.provider.port, certs.ca)
        outcome = await sms.send(message())
        await sms.aclose()
    assert isinstance(outcome, ChannelFault)
    assert ready.desk.recorder.accepted_ids().total() == 0


async def test_the_status_inside_an_http_200_is_read(certs: Certs) -> None:
    """Vonage says no with an HTTP 200."""
    async with sandbox(certs) as ready:
        ready.fault(Fault(kind="status", status=200, reason="9 Partner quota exceeded", times=1))
        assert isinstance(await ready.send(), ChannelFault)
        body = '{"messages":[{"status":"0","message-id":"A"},{"status":"5"}]}'
        ready.fault(Fault(kind="status", status=200, body=body, times=1))
        outcome = await ready.send()
    assert isinstance(outcome, Permanent)
    assert outcome.code == "partly-sent"


async def test_a_long_text_is_accepted_in_parts(certs: Certs) -> None:
    """Each part has an id, and the words arrive whole."""
    text = "✈" * 100
    async with sandbox(certs) as ready:
        outcome = await ready.connector.send(replace(ready.message(), content=Content(text=text)))
        (row,) = ready.desk.recorder.rows()
    assert isinstance(outcome, Accepted)
    assert len(outcome.provider_id.split(",")) == parts(text, "unicode") == 2
    assert (row.content["text"], row.content["type"]) == (text, "unicode")


async def test_neither_words_nor_password_are_logged(certs: Certs, caplog: pytest.LogCaptureFixture) -> None:
    """The library writes both into its log; not here."""
    with caplog.at_level(logging.DEBUG):
        async with sandbox(certs) as ready:
            await ready.send()
            ready.fault(Fault(kind="status", status=400, body="number +447700900000"))
            await ready.send()
    words = [record.getMessage() for record in caplog.records]
    assert not [word for word in words if "Denver" in word or "Basic " in word or "4477009" in word]
