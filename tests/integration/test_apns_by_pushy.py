"""Our APNs connector against pushy's mock server, whose validating handler checks what Apple would."""

import asyncio
from collections import Counter
from collections.abc import AsyncGenerator, Generator
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from connectors import apns
from connectors.contract import (
    Accepted,
    ChannelFault,
    Connector,
    Content,
    InvalidAddress,
    Message,
    Outcome,
    Permanent,
    Transient,
)
from connectors.sandbox.certs import Certs
from tests.contract.rigs import delivery_id
from tests.support import mock_apns
from tests.support.mock_apns import KEY_ID, TEAM_ID, TOPIC, MockApns

pytestmark = pytest.mark.integration
MANY = 1000
GONE = datetime(2026, 11, 1, tzinfo=UTC)
DEAD = f"{0xDEAD:064x}"
STRANGER = f"{0x57:064x}"


def token(number: int) -> str:
    """The n-th valid device token."""
    return f"{0xA0000 + number:064x}"


def message(number: int = 0, address: str | None = None) -> Message:
    """The n-th message, with all that a message can have."""
    return Message(
        delivery_id=delivery_id(number),
        event_id=f"event-{number}",
        address=address or token(number),
        registered_at=GONE - timedelta(days=1),
        content=Content(title="Gate change", text="Gate B4 ✈ Ünïcode", link="https://example.com/17"),
        urgent=number % 2 == 0,
        time_to_live=timedelta(hours=number % 3),
        collapse_key="flight-17",
    )


@pytest.fixture(scope="module")
def certs(tmp_path_factory: pytest.TempPathFactory) -> Certs:
    """Keys and certificates, made once."""
    return Certs.at(tmp_path_factory.mktemp("certs"))


@pytest.fixture(scope="module")
def server(certs: Certs, tmp_path_factory: pytest.TempPathFactory) -> Generator[MockApns]:
    """The mock server, which knows a thousand devices, and one that is gone."""
    valid = [token(number) for number in range(MANY)]
    with mock_apns.running(tmp_path_factory.mktemp("pushy"), certs, valid, {DEAD: GONE}) as ready:
        yield ready


@asynccontextmanager
async def connector(server: MockApns, certs: Certs, **changes: str) -> AsyncGenerator[Connector]:
    """A connector that points at it."""
    options = {
        "host": "127.0.0.1",
        "port": str(server.port),
        "ca_file": str(certs.ca),
        "key_path": str(certs.apns_key),
        "key_id": KEY_ID,
        "team_id": TEAM_ID,
        "topic": TOPIC,
        "timeout": "30",
    }
    found = apns.create(options | changes)
    try:
        yield found
    finally:
        await found.aclose()


async def test_what_we_send_is_valid(server: MockApns, certs: Certs) -> None:
    """Token, topic, priority, push type, collapse id and payload pass the checks of a foreign server."""
    async with connector(server, certs) as push:
        assert isinstance(await push.send(message(1)), Accepted)
    (seen,) = server.notified(1)
    assert (seen.verdict, seen.apns_id) == ("accepted", delivery_id(1))
    assert seen.payload["aps"]["alert"] == {"title": "Gate change", "body": "Gate B4 ✈ Ünïcode"}


async def test_a_thousand_at_once_are_each_notified_once(server: MockApns, certs: Certs) -> None:
    """Every one is accepted and seen exactly once, under its own id, by one connection or two."""
    async with connector(server, certs) as push:
        outcomes = await asyncio.gather(*(push.send(message(number)) for number in range(MANY)))
    assert Counter(type(outcome) for outcome in outcomes) == {Accepted: MANY}
    seen = Counter(one.apns_id for one in server.notified(MANY))
    assert seen == {delivery_id(number): 1 for number in range(MANY)}


@pytest.mark.parametrize(
    ("address", "registered_at", "kind", "reason"),
    [
        (DEAD, GONE - timedelta(days=1), InvalidAddress, "UNREGISTERED"),
        (DEAD, GONE + timedelta(days=1), Permanent, "UNREGISTERED"),  # registered anew since
        (STRANGER, None, InvalidAddress, "DEVICE_TOKEN_NOT_FOR_TOPIC"),
        ("ab" * 40, None, InvalidAddress, "BAD_DEVICE_TOKEN"),  # longer than pushy's Apple knows them
    ],
)
async def test_a_refused_device_is_understood(
    server: MockApns,
    certs: Certs,
    address: str,
    registered_at: datetime | None,
    kind: type[Outcome],
    reason: str,
) -> None:
    """The bodies of a foreign server say the same to us as those of our own."""
    async with connector(server, certs) as push:
        outcome = await push.send(replace(message(address=address), registered_at=registered_at))
    assert type(outcome) is kind
    assert [one.reason for one in server.notified(1)] == [reason]


@pytest.mark.parametrize(
    ("changes", "kind", "reason"),
    [
        ({"key_id": "OTHERKEY01"}, ChannelFault, "INVALID_PROVIDER_TOKEN"),
        ({"topic": "org.example.other"}, InvalidAddress, "DEVICE_TOKEN_NOT_FOR_TOPIC"),
    ],
)
async def test_wrong_credentials_are_understood(
    server: MockApns, certs: Certs, changes: dict[str, str], kind: type[Outcome], reason: str
) -> None:
    """A foreign check of our ES256 signature and its key."""
    async with connector(server, certs, **changes) as push:
        assert type(await push.send(message())) is kind
    assert [one.reason for one in server.notified(1)] == [reason]


async def test_three_thousand_refusals_do_not_stall(server: MockApns, certs: Certs) -> None:
    """Netty's own flow control, and bodies for all."""
    async with connector(server, certs, connections="1") as push:
        for first in range(0, 3000, 250):
            sends = (push.send(message(number, STRANGER)) for number in range(first, first + 250))
            assert {type(outcome) for outcome in await asyncio.gather(*sends)} == {InvalidAddress}
    assert {one.reason for one in server.notified(3000)} == {"DEVICE_TOKEN_NOT_FOR_TOPIC"}


async def test_an_end_in_flight_is_known_or_uncertain(certs: Certs, tmp_path: Path) -> None:
    """When the server dies, every send has an outcome, and none of those that it saw is called unsent."""
    with mock_apns.running(tmp_path, certs, [token(number) for number in range(100)], {}) as server:
        async with connector(server, certs) as push:
            assert isinstance(await push.send(message()), Accepted)
            sends = [asyncio.create_task(push.send(message(number))) for number in range(100)]
            seen = await asyncio.to_thread(server.kill)
            outcomes = await asyncio.gather(*sends)
    unsent = {delivery_id(n) for n, outcome in enumerate(outcomes) if isinstance(outcome, Transient)}
    assert not unsent & {one.apns_id for one in seen[1:]}
