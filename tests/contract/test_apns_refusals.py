"""The local APNs refuses what Apple refuses: raw requests, each wrong in one place."""

import json
import ssl
from collections.abc import AsyncGenerator, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

import jwt
import pytest

from connectors._apns_pool import Pool
from connectors.sandbox.apns import KEY_ID, TEAM_ID, TOPIC
from tests.contract.rigs import RIGS, Bench, bench, delivery_id

APNS = next(rig for rig in RIGS if rig.name == "apns")
BODY = b'{"aps":{"alert":"Hi"}}'


@dataclass(frozen=True, slots=True, kw_only=True)
class Raw:
    """A way to the server that lets everything through."""

    running: Bench
    pool: Pool

    def token(self, *, age: timedelta = timedelta(), key: bytes | None = None, **claims: object) -> str:
        """A provider token."""
        issued: datetime = self.running.desk.clock() - age
        payload = {"iss": TEAM_ID, "iat": int(issued.timestamp())} | claims
        private = key or self.running.desk.certs.apns_key.read_bytes()
        return "bearer " + jwt.encode(payload, private, algorithm="ES256", headers={"kid": KEY_ID})

    async def post(self, changes: Mapping[str, str | None], body: bytes = BODY) -> tuple[int, str]:
        """Status and reason for a good request with changes; None leaves a header out."""
        headers: dict[str, str | None] = {
            ":method": "POST",
            ":scheme": "https",
            ":authority": "127.0.0.1",
            ":path": "/3/device/" + "ab" * 32,
            "apns-id": delivery_id(1),
            "apns-topic": TOPIC,
            "apns-push-type": "alert",
            "authorization": self.token(),
        }
        kept = [(name, value) for name, value in (headers | dict(changes)).items() if value is not None]
        answer = await self.pool.post(kept, body)
        return answer.status, json.loads(answer.body)["reason"] if answer.body else ""


@pytest.fixture(scope="module")
def certs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Keys and certificates, made once."""
    return tmp_path_factory.mktemp("certs")


@pytest.fixture
async def raw(certs: Path) -> AsyncGenerator[Raw]:
    """A running APNs and a raw way to it."""
    async with bench(APNS, certs) as running:
        tls = ssl.create_default_context(cafile=running.desk.certs.ca)
        tls.set_alpn_protocols(["h2"])
        pool = Pool(host="127.0.0.1", port=running.provider.port, tls=tls, connections=1, seconds=2.0)
        yield Raw(running=running, pool=pool)
        await pool.aclose()


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, (200, "")),
        ({"apns-id": None}, (200, "")),
        ({"apns-priority": "1", "apns-expiration": "0"}, (200, "")),
        ({":path": "/3/devices/" + "ab" * 32}, (404, "BadPath")),
        ({":method": "PUT"}, (405, "MethodNotAllowed")),
        ({":path": "/3/device/"}, (400, "MissingDeviceToken")),
        ({":path": "/3/device/xyz"}, (400, "BadDeviceToken")),
        ({"apns-topic": None}, (400, "MissingTopic")),
        ({"apns-topic": "org.example.other"}, (400, "DeviceTokenNotForTopic")),
        ({"apns-id": "1"}, (400, "BadMessageId")),
        ({"apns-collapse-id": "k" * 65}, (400, "BadCollapseId")),
        ({"apns-expiration": "tomorrow"}, (400, "BadExpirationDate")),
        ({"apns-priority": "7"}, (400, "BadPriority")),
        ({"apns-push-type": "shout"}, (400, "InvalidPushType")),
        ({"authorization": None}, (403, "MissingProviderToken")),
        ({"authorization": "basic eDp5"}, (403, "MissingProviderToken")),
        ({"authorization": "bearer x.y.z"}, (403, "InvalidProviderToken")),
    ],
)
async def test_each_header_is_checked(
    raw: Raw, changes: dict[str, str | None], expected: tuple[int, str]
) -> None:
    """A header that Apple refuses is refused with Apple's word, and recorded as not accepted."""
    assert await raw.post(changes) == expected
    (row,) = raw.running.desk.recorder.rows()
    assert row.accepted is (expected[0] == 200)


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (b"", (400, "PayloadEmpty")),
        (b"{", (400, "PayloadEmpty")),
        (b'{"aps":1}', (400, "PayloadEmpty")),
        (b"\xff", (400, "PayloadEmpty")),
        (b'{"aps":{},"x":"' + b"x" * 4081 + b'"}', (413, "PayloadTooLarge")),
    ],
)
async def test_each_payload_is_checked(raw: Raw, body: bytes, expected: tuple[int, str]) -> None:
    """No payload, or one byte too many."""
    assert await raw.post({}, body) == expected


async def test_the_provider_token_is_verified(raw: Raw) -> None:
    """Team, key, signature and age are checked, not only looked at."""
    foreign = raw.running.desk.certs.vapid_key.read_bytes()
    answers = [
        await raw.post({"authorization": raw.token(iss="ANOTHERTEA")}),
        await raw.post({"authorization": raw.token(key=foreign)}),
        await raw.post({"authorization": raw.token(age=timedelta(minutes=61))}),
        await raw.post({"authorization": raw.token(age=timedelta(minutes=-6))}),
        await raw.post({"authorization": raw.token(age=timedelta(minutes=59))}),
    ]
    assert answers == [
        (403, "InvalidProviderToken"),
        (403, "InvalidProviderToken"),
        (403, "ExpiredProviderToken"),
        (403, "InvalidProviderToken"),
        (200, ""),
    ]
