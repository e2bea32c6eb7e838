"""Webhooks over the wire: one's own gateway, users' endpoints, and where none of them may lead."""

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import replace

import pytest

from connectors import webhook
from connectors.contract import Accepted, ChannelFault, InvalidAddress, Message, Outcome, Permanent, Transient
from connectors.sandbox import webhook as receiver
from connectors.sandbox.certs import Certs
from connectors.sandbox.faults import Fault
from tests.contract.rigs import Bench, Rig, bench, connector_options
from tests.contract.rigs_b import WEBHOOK

GATEWAY = Rig(
    name="webhook",
    start=receiver.start,
    create=webhook.create,
    address=lambda _running, n: f"+44770090{n:04}",
)


@pytest.fixture(scope="module")
def certs(tmp_path_factory: pytest.TempPathFactory) -> Certs:
    """Keys and certificates, made once."""
    return Certs.at(tmp_path_factory.mktemp("certs"))


@asynccontextmanager
async def gateway(certs: Certs) -> AsyncGenerator[Bench]:
    """The receiver as one's own gateway, and a connector."""
    async with bench(GATEWAY, certs.directory) as ready:
        yield ready


async def once(options: dict[str, str], message: Message) -> Outcome:
    """One message by a connector of these options."""
    connector = webhook.create(options)
    try:
        return await connector.send(message)
    finally:
        await connector.aclose()


async def test_a_gateway_gets_address_words_and_identity(certs: Certs) -> None:
    """All that it needs to send the message on, believed by its signature."""
    async with gateway(certs) as ready:
        assert isinstance(await ready.send(), Accepted)
        (row,) = ready.desk.recorder.rows()
        message = ready.message()
    assert (row.accepted, row.delivery_id, row.address) == (True, message.delivery_id, message.address)
    assert row.content["html"] == message.content.html
    assert row.identity["webhook-id"] == message.delivery_id


async def test_a_gateway_names_a_dead_address(certs: Certs) -> None:
    """410 speaks of the address in the message, not of the gateway."""
    async with gateway(certs) as ready:
        ready.fault(Fault(kind="dead", address=ready.message().address))
        assert isinstance(await ready.send(), InvalidAddress)
        assert isinstance(await ready.send(1), Accepted)


@pytest.mark.parametrize("mode", ["gateway", "endpoints"])
async def test_a_wrong_secret_is_the_channels_fault_or_the_endpoints(certs: Certs, mode: str) -> None:
    """One's own gateway that does not believe us stops the channel; a user's endpoint stops nobody."""
    other = "whsec_" + "A" * 44
    rig, kind = (GATEWAY, ChannelFault) if mode == "gateway" else (WEBHOOK, Permanent)
    async with bench(rig, certs.directory) as ready:
        options = connector_options(rig, ready.provider) | {"secrets": other}
        connector = rig.create(options)
        outcome = await connector.send(ready.message())
        await connector.aclose()
    assert isinstance(outcome, kind)
    assert ready.desk.recorder.accepted_ids().total() == 0


@pytest.mark.parametrize("mode", ["gateway", "endpoints"])
async def test_an_untrusted_certificate_gets_nothing(certs: Certs, mode: str) -> None:
    """Of one's own gateway it is a fault of the channel; a user may mend his endpoint's."""
    rig, kind = (GATEWAY, ChannelFault) if mode == "gateway" else (WEBHOOK, Transient)
    async with bench(rig, certs.directory) as ready:
        options = connector_options(rig, ready.provider)
        del options["ca_file"]
        connector = rig.create(options)
        outcome = await connector.send(ready.message())
        await connector.aclose()
        assert ready.requests == 0
    assert isinstance(outcome, kind)


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1"])
async def test_without_a_list_no_private_network_is_reached(certs: Certs, host: str) -> None:
    """A user's endpoint that leads to ourselves is a permanent refusal, and no request."""
    async with bench(WEBHOOK, certs.directory) as ready:
        port = ready.provider.port
        address = f"https://{host}:{port}/hook/x"
        options = {"secrets": receiver.SECRET, "ca_file": str(certs.ca), "timeout": "1"}
        refused = await once(options, replace(ready.message(), address=address))
        assert isinstance(refused, Permanent)
        assert ready.requests == 0


async def test_a_name_that_resolves_to_a_private_network_is_permanent(certs: Certs) -> None:
    """The name is allowed, and its address is not: found out when it is dialled."""
    async with bench(WEBHOOK, certs.directory) as ready:
        options = {"secrets": receiver.SECRET, "ca_file": str(certs.ca), "timeout": "1"}
        refused = await once(options, replace(ready.message(), address="https://localhost/hook"))
    assert isinstance(refused, Permanent)
    assert refused.code == "private-address"


async def test_a_redirect_is_not_followed(certs: Certs) -> None:
    """It would lead past the guard."""
    async with bench(WEBHOOK, certs.directory) as ready:
        ready.fault(Fault(kind="status", status=307))
        assert isinstance(await ready.send(), Permanent)
        assert ready.requests == 1
