"""Web Push against services that redirect, break off, or do not know our key."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from connectors import webpush
from connectors.contract import (
    Accepted,
    BadOptions,
    ChannelFault,
    Content,
    InvalidAddress,
    Message,
    Outcome,
    Permanent,
    Transient,
    Uncertain,
)
from connectors.sandbox.certs import Certs
from connectors.sandbox.webpush import subscription
from tests.contract.rigs import TIMEOUT, Bench, bench, connector_options, delivery_id
from tests.contract.rigs_b import WEBPUSH


@pytest.fixture(scope="module")
def certs(tmp_path_factory: pytest.TempPathFactory) -> Certs:
    """Keys and certificates, made once."""
    return Certs.at(tmp_path_factory.mktemp("certs"))


@asynccontextmanager
async def sandbox(certs: Certs) -> AsyncGenerator[Bench]:
    """The local push service and a connector."""
    async with bench(WEBPUSH, certs.directory) as ready:
        yield ready


def new_key(file: Path, curve: ec.EllipticCurve | None = None) -> str:
    """A fresh key in a PEM file."""
    key = ec.generate_private_key(curve or ec.SECP256R1())
    file.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    return str(file)


async def answered(certs: Certs, words: bytes) -> tuple[Outcome, int]:
    """The outcome when a service answers with these bytes and hangs up, and how many requests it read."""
    requests = 0

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal requests
        try:
            head = await reader.readuntil(b"\r\n\r\n")
            await reader.readexactly(
                int(head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0])
            )
            requests += 1
            writer.write(words)
            await writer.drain()
        finally:
            writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=certs.server_context())
    port = server.sockets[0].getsockname()[1]
    options = {
        "vapid_key": str(certs.vapid_key),
        "subject": "mailto:ops@example.com",
        "timeout": str(TIMEOUT),
    }
    push = webpush.create(options | {"hosts": f"127.0.0.1:{port}", "ca_file": str(certs.ca)})
    address = subscription("device", f"https://127.0.0.1:{port}")
    try:
        message = Message(
            delivery_id=delivery_id(0), event_id="e", address=address, content=Content(text="x")
        )
        return await push.send(message), requests
    finally:
        await push.aclose()
        server.close()


@pytest.mark.parametrize(
    ("words", "kind"),
    [
        (b"", Uncertain),
        (b"\x16\x03garbage\r\n\r\n", Uncertain),
        (b"HTTP/1.1 201 Created\r\n", Uncertain),
        (b"HTTP/1.1 307 x\r\nLocation: /push/other\r\nContent-Length: 0\r\n\r\n", Permanent),
        (b"HTTP/1.1 201 Created\r\nContent-Length: 50\r\n\r\n{", Accepted),  # the status has spoken
        (b"HTTP/1.1 410 Gone\r\nContent-Encoding: gzip\r\nContent-Length: 3\r\n\r\nabc", InvalidAddress),
    ],
)
async def test_a_broken_answer_is_one_request(certs: Certs, words: bytes, kind: type[Outcome]) -> None:
    """A status line is a verdict, anything less is none; nothing is repeated or followed."""
    outcome, requests = await answered(certs, words)
    assert (type(outcome), requests) == (kind, 1)


async def test_an_untrusted_certificate_is_transient_and_nothing_is_sent(certs: Certs) -> None:
    """One service of many: the others go on."""
    async with sandbox(certs) as ready:
        options = connector_options(WEBPUSH, ready.provider)
        del options["ca_file"]
        push = webpush.create(options)
        assert isinstance(await push.send(ready.message()), Transient)
        await push.aclose()
        assert ready.requests == 0


async def test_a_service_outside_the_list_is_never_dialled(certs: Certs) -> None:
    """The endpoint is a user's input: loopback is reached only when it is listed."""
    async with sandbox(certs) as ready:
        options = connector_options(WEBPUSH, ready.provider)
        del options["hosts"]
        push = webpush.create(options)
        assert isinstance(await push.send(ready.message()), Permanent)
        await push.aclose()
        assert ready.requests == 0


async def test_a_service_that_leads_into_a_private_network_is_permanent(
    certs: Certs, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A public service's name whose address is one of ours: found out when it is dialled, and no request."""
    monkeypatch.setattr(webpush, "PUSH_SERVICES", ("localhost",))
    push = webpush.create({"vapid_key": str(certs.vapid_key), "subject": "mailto:ops@example.com"})
    address = subscription("device", "https://localhost")
    outcome = await push.send(
        Message(delivery_id=delivery_id(0), event_id="e", address=address, content=Content(text="x"))
    )
    await push.aclose()
    assert isinstance(outcome, Permanent)
    assert outcome.code == "private-address"


async def test_a_wrong_key_stops_the_channel_and_drops_nobody(certs: Certs, tmp_path: Path) -> None:
    """The service refuses the key for everybody: five times later, then a channel fault."""
    async with sandbox(certs) as ready:
        options = connector_options(WEBPUSH, ready.provider) | {"vapid_key": new_key(tmp_path / "other.pem")}
        push = webpush.create(options)
        outcomes = [await push.send(ready.message(number)) for number in range(6)]
        await push.aclose()
    assert [type(outcome) for outcome in outcomes] == [Transient] * 4 + [ChannelFault] * 2


async def test_what_cannot_be_decrypted_is_refused_by_the_service(certs: Certs) -> None:
    """A subscription with another device's keys: the service itself finds that it can't be read."""
    async with sandbox(certs) as ready:
        message = ready.message(1)
        mixed = message.address.replace("/push/device-1", "/push/device-2")
        assert isinstance(await ready.connector.send(replace(message, address=mixed)), Permanent)
        assert ready.desk.recorder.accepted_ids().total() == 0


async def test_a_closed_connector_refuses(certs: Certs) -> None:
    """A late send is told so, and raises nothing."""
    async with sandbox(certs) as ready:
        await ready.connector.aclose()
        assert isinstance(await ready.send(), Transient)


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"vapid_key": "/no/such/file.pem"}, "vapid_key"),
        ({"subject": "somebody"}, "subject"),
        ({"hosts": "a b"}, "hosts"),
    ],
)
async def test_wrong_options_are_named(certs: Certs, changes: dict[str, str], named: str) -> None:
    """An option that cannot work stops the start, and a missing key is not made up."""
    options = {"vapid_key": str(certs.vapid_key), "subject": "mailto:ops@example.com"}
    with pytest.raises(BadOptions, match=f"(?i){named}"):
        webpush.create(options | changes)


async def test_a_key_of_another_curve_is_refused(tmp_path: Path) -> None:
    """VAPID is P-256."""
    key = new_key(tmp_path / "p384.pem", ec.SECP384R1())
    with pytest.raises(BadOptions, match="P-256"):
        webpush.create({"vapid_key": key, "subject": "mailto:ops@example.com"})
