"""Receipts over real HTTP, from the local providers' hands: written once, and strangers refused."""

import asyncio
from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlencode

import aiohttp
import pytest

from connectors import twilio, vonage
from connectors.contract import Accepted, Callback, Connector, Content, Message, Receiver, Uncertain
from connectors.sandbox import twilio as messages_api
from connectors.sandbox import vonage as sms_api
from connectors.sandbox.certs import Certs
from connectors.sandbox.desk import Desk, wall_clock
from connectors.sandbox.faults import Fault, Script
from connectors.sandbox.record import Recorder
from pipeline.adapters.http.door import door
from pipeline.model.delivery import Owner
from pipeline.model.engagement import Engagement
from pipeline.model.errors import DependencyDown
from pipeline.model.topics import ENGAGEMENT
from pipeline.stages.receive.step import Tools, take
from tests.contract.rigs import sockets, until
from tests.support.memory_kafka import MemoryKafka, MemoryProducer
from tests.support.sending import WIRE, HandClock, eventually

ID = "5eed0000-0000-5000-8000-000000000001"
OWNER = Owner(tenant="acme", user_id="u-1", event_id="e-1", channel="sms")


@dataclass
class Owners:
    """The notification log, which may learn of a delivery late, or be away."""

    known: Mapping[str, Owner] = field(default_factory=lambda: {ID: OWNER})
    late: int = 0  # questions before it knows
    away: bool = False

    async def find(self, delivery_id: str) -> Owner | None:
        """One question."""
        await asyncio.sleep(0)
        if self.away:
            raise DependencyDown("away for the test")
        self.late -= 1
        return None if self.late >= 0 else self.known.get(delivery_id)


@dataclass
class Reception:
    """The stage with its door, and what it wrote."""

    port: int
    kafka: MemoryKafka
    owners: Owners
    receivers: dict[str, Receiver]

    def told(self) -> list[Engagement]:
        """What was written."""
        return [WIRE.decode(Engagement, one.value) for one in self.kafka.read(ENGAGEMENT)]

    async def post(self, provider: str, form: Mapping[str, str], **headers: str) -> int:
        """The status of the answer to a callback."""
        url = f"http://127.0.0.1:{self.port}/receipts/{provider}"
        async with (
            aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=60)) as session,
            session.post(url, data=form, headers=headers) as answer,
        ):
            return answer.status


@asynccontextmanager
async def listening() -> AsyncGenerator[Reception]:
    """The stage in memory, but for its door."""
    kafka, owners = MemoryKafka(HandClock()), Owners()
    receivers: dict[str, Receiver] = {
        "vonage": vonage.create_receiver({"signature_secret": "sandbox-signature"})
    }
    tools = Tools(
        receivers=receivers,
        owners=owners,
        producer=MemoryProducer(kafka),
        wire=WIRE,
        clock=HandClock(),
        patience=1.0,
    )

    async def handle(provider: str, query: str, headers: Mapping[str, str], body: bytes) -> int:
        return await take(tools, provider, Callback(query=query, headers=headers, body=body))

    async with door(handle, None, "127.0.0.1", 0) as port:
        yield Reception(port, kafka, owners, receivers)
    await until(lambda: not sockets(port), 60)  # left open, a later test is blamed


FORM = sms_api.receipt({"to": "15005550006", "from": "Everpost", "client-ref": ID}, 1_800_000_000)


async def test_a_receipt_is_written_before_it_is_answered() -> None:
    """With whose it is and the facts as they came, and no number; told twice it is the same fact."""
    async with listening() as desk:
        assert await desk.post("vonage", FORM) == 204
        assert await desk.post("vonage", FORM) == 204
    first, second = desk.told()
    assert first == second
    assert (first.delivery_id, first.user_id, first.event_id, first.kind) == (ID, "u-1", "e-1", "receipt")
    assert (first.facts["fate"], first.facts["status"], first.facts["provider"]) == (
        "delivered",
        "delivered",
        "vonage",
    )
    assert "15005550006" not in str(first)
    assert {one.key for one in desk.kafka.read(ENGAGEMENT)} == {b"acme/u-1"}


async def test_strangers_are_refused() -> None:
    """A wrong signature, an unknown provider, a delivery of nobody, a method, a body that is too large."""
    async with listening() as desk:
        assert await desk.post("vonage", {**FORM, "status": "failed"}) == 403
        assert await desk.post("pigeons", FORM) == 404
        desk.owners.known = {}
        assert await desk.post("vonage", FORM) == 404
        assert await desk.post("vonage", {"x": "y" * 100_000}) == 413
        async with (
            aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=60)) as session,
            session.delete(f"http://127.0.0.1:{desk.port}/receipts/vonage") as answer,
        ):
            assert answer.status == 405
    assert desk.told() == []


async def test_a_receipt_may_be_faster_than_the_log() -> None:
    """The log learns of the delivery while the callback waits."""
    async with listening() as desk:
        desk.owners.late = 2
        assert await desk.post("vonage", FORM) == 204
    assert len(desk.told()) == 1


async def test_while_something_is_away_the_provider_is_asked_to_come_again() -> None:
    """PostgreSQL or Kafka away: 503, and nothing is lost by it."""
    async with listening() as desk:
        desk.owners.away = True
        assert await desk.post("vonage", FORM) == 503
        desk.owners.away, desk.kafka.down = False, True
        assert await desk.post("vonage", FORM) == 503
        desk.kafka.down = False
        assert await desk.post("vonage", FORM) == 204


async def test_by_get_too() -> None:
    """Vonage's accounts may be set to it."""
    async with listening() as desk:
        url = f"http://127.0.0.1:{desk.port}/receipts/vonage?{urlencode(FORM)}"
        async with (
            aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=60)) as session,
            session.get(url) as answer,
        ):
            assert answer.status == 204
    assert len(desk.told()) == 1


@pytest.mark.parametrize("provider", ["vonage", "twilio"])
async def test_the_providers_tell_of_what_they_took_without_an_answer(provider: str, tmp_path: Path) -> None:
    """It hangs up on the SMS that it takes: uncertain, until its receipt comes in over HTTP."""
    local = Desk(recorder=Recorder(), script=Script(), certs=Certs.at(tmp_path), clock=wall_clock)
    running = await {"vonage": sms_api, "twilio": messages_api}[provider].start(local, 0)
    try:
        async with listening() as desk:
            address = f"https://127.0.0.1:{desk.port}/receipts/{provider}"
            prefix = f"EVERPOST_CONNECTOR_{provider.upper()}_"
            options = {name.removeprefix(prefix).lower(): value for name, value in running.options.items()}
            options["callback" if provider == "vonage" else "status_callback"] = address
            module = {"vonage": vonage, "twilio": twilio}[provider]
            desk.receivers[provider] = module.create_receiver(options)
            connector: Connector = module.create(options)
            try:
                local.script.extend([Fault(kind="hang_up", processed=True, times=1)], local.steady())
                message = Message(
                    delivery_id=ID, event_id="e-1", address="+15005550009", content=Content(text="late")
                )
                assert isinstance(await connector.send(message), Uncertain)
                await eventually(lambda: len(desk.told()) == 1, 60)
                assert isinstance(await connector.send(message), Accepted)
                await eventually(lambda: len(desk.told()) == 2, 60)
            finally:
                await connector.aclose()
    finally:
        await running.aclose()
        await until(lambda: not sockets(running.port), 60)
    assert {(one.delivery_id, one.facts["fate"]) for one in desk.told()} == {(ID, "delivered")}
