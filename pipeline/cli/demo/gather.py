"""What the local providers received and what the notification log says, in the words of `verify`."""

import json
from collections.abc import AsyncGenerator, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any
from urllib.parse import unquote, urlsplit

import aiohttp
import asyncpg

from infra.demo.passengers import TENANT, Passengers
from infra.demo.plan import Step, wanted
from pipeline.adapters.postgres.deliveries import all_deliveries
from pipeline.cli.demo.verify import Arrived, Logged, Wanted
from pipeline.model.catalogue import Catalogue

_TIMEOUT = aiohttp.ClientTimeout(total=30)
_CHANNELS = {"apns": "apns", "fcm": "fcm", "webpush": "webpush", "vonage": "sms", "smtp": "email"}


class Control:
    """The control door of the local providers."""

    def __init__(self, session: aiohttp.ClientSession, url: str) -> None:
        self._session = session
        self._url = url

    async def add_faults(self, faults: Sequence[Mapping[str, Any]]) -> None:
        """Put faults into force from now on."""
        async with self._session.post(f"{self._url}/faults", json=faults) as answer:
            answer.raise_for_status()

    async def arrived(self) -> list[Arrived]:
        """Every request that a provider accepted."""
        async with self._session.get(f"{self._url}/received") as answer:
            answer.raise_for_status()
            rows: list[dict[str, Any]] = [json.loads(line) async for line in answer.content]
        return [
            Arrived(
                delivery_id=row["delivery_id"], channel=_CHANNELS[row["provider"]], address=row["address"]
            )
            for row in rows
            if row["accepted"]
        ]

    async def accepted(self) -> dict[str, int]:
        """How many messages each channel's provider has taken."""
        async with self._session.get(f"{self._url}/summary") as answer:
            answer.raise_for_status()
            summary: dict[str, dict[str, int]] = await answer.json()
        return {_CHANNELS[name]: counts["accepted"] for name, counts in summary.items()}


@asynccontextmanager
async def control(url: str) -> AsyncGenerator[Control]:
    """A client of the control door."""
    async with aiohttp.ClientSession(timeout=_TIMEOUT) as session:
        yield Control(session, url)


async def logged(pool: asyncpg.Pool) -> list[Logged]:
    """Every delivery of the demo."""
    return [
        Logged(
            delivery_id=row.delivery_id,
            event_id=row.event_id,
            user_id=row.user_id,
            channel=row.channel,
            address=seen(row.channel, row.address or ""),
            state=row.state,
            uncertain=row.uncertain,
        )
        async for row in all_deliveries(pool, TENANT)
    ]


def expected(steps: Sequence[Step], people: Passengers, catalogue: Catalogue) -> Iterator[Wanted]:
    """Where each event of the plan should be heard of, worked out from the plan alone."""
    by_id = {profile.user_id: profile for profile in people.profiles}
    for step in steps:
        kind = catalogue[step.type]
        for channel, address in wanted(by_id[step.user_id], kind.channels, kind.category.name):
            yield Wanted(
                event_id=step.event_id, user_id=step.user_id, channel=channel, address=seen(channel, address)
            )


def seen(channel: str, address: str) -> str:
    """The address as the provider writes it down: of a Web Push subscription, the device's name."""
    if channel != "webpush":
        return address
    return unquote(urlsplit(json.loads(address)["endpoint"]).path.rsplit("/", 1)[-1])
