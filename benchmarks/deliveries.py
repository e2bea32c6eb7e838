"""The senders' input: deliveries of one channel, each with its event, for users whose profiles are there.

The decision is a minute old, so that every attempt asks PostgreSQL again for consent and address, which in
production only those do that have waited.
"""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from uuid import NAMESPACE_OID, uuid5

from confluent_kafka import Producer

from connectors.sandbox.webpush import subscription
from pipeline.adapters.wire.codec import Wire
from pipeline.model.delivery import Delivery, delivery_id
from pipeline.model.event import Channel, Event, Lane, user_key
from pipeline.model.profile import Address, Profile
from pipeline.model.topics import deliver

TENANT = "bench"
USERS = 5_000
TYPE = "flight.cancelled"
_BATCH = 1_000  # records of one produce_batch
_AGE = timedelta(minutes=1)
_VERSION = 2  # of a profile that was written, and then its address


@dataclass(frozen=True, slots=True, kw_only=True)
class Sandbox:
    """The local providers, in a process of their own."""

    control: str  # http://127.0.0.1:PORT
    options: Mapping[str, str]  # EVERPOST_CONNECTOR_...
    ports: Mapping[str, int]

    @staticmethod
    def at(directory: Path) -> "Sandbox":
        """Those that have written down in `directory` where they listen."""
        ready = json.loads((directory / "sandboxes.json").read_text())
        ports = json.loads((directory / "ports.json").read_text())
        return Sandbox(control=ready["control"], options=ready["options"], ports=ports)

    def options_of(self, provider: str) -> dict[str, str]:
        """As a connector's `create` takes them."""
        prefix = f"EVERPOST_CONNECTOR_{provider.upper()}_"
        own = self.options.items()
        return {name.removeprefix(prefix).lower(): value for name, value in own if name.startswith(prefix)}


@dataclass(frozen=True, slots=True, kw_only=True)
class Contest:
    """One provider: the channel that it serves and how its addresses look."""

    provider: str
    channel: Channel
    address: Callable[[Sandbox, int], str]
    messages: int  # of one turn, unless the command says how many


CONTESTS: tuple[Contest, ...] = (
    Contest(provider="apns", channel="apns", address=lambda _, number: f"{number:064x}", messages=20_000),
    Contest(
        provider="fcm",
        channel="fcm",
        address=lambda _, number: f"device-{number:08}:APA91b-sandbox",
        messages=10_000,
    ),
    Contest(
        provider="webpush",
        channel="webpush",
        address=lambda here, number: subscription(f"d{number}", f"https://127.0.0.1:{here.ports['webpush']}"),
        messages=10_000,
    ),
    Contest(
        provider="vonage", channel="sms", address=lambda _, number: f"+4477009{number:05}", messages=8_000
    ),
    Contest(
        provider="twilio", channel="sms", address=lambda _, number: f"+4477009{number:05}", messages=8_000
    ),
    Contest(
        provider="smtp",
        channel="email",
        address=lambda _, number: f"passenger{number}@mail.example",
        messages=4_000,
    ),
)


def addresses(contest: Contest, sandbox: Sandbox) -> list[str]:
    """One for each user."""
    return [contest.address(sandbox, number) for number in range(USERS)]


def profiles(channel: Channel, found: Sequence[str], now: datetime) -> Iterator[Profile]:
    """Everybody, with an address on the channel."""
    for number, value in enumerate(found):
        address = Address(
            address_id=_address_id(number, channel), channel=channel, value=value, registered_at=now - _AGE
        )
        yield Profile(tenant=TENANT, user_id=f"u{number}", version=1, addresses=(address,))


def publish(
    servers: str, channel: Channel, found: Sequence[str], numbers: range, wire: Wire, now: datetime
) -> None:
    """Write the deliveries with these numbers; no number twice to one broker."""
    producer = Producer(
        {
            "bootstrap.servers": servers,
            "partitioner": "murmur2_random",
            "linger.ms": 20,
            "compression.type": "lz4",
        }
    )
    topic = deliver(channel, "normal")
    for first in range(numbers.start, numbers.stop, _BATCH):
        some = [
            delivery(channel, found, number, wire, now)
            for number in range(first, min(first + _BATCH, numbers.stop))
        ]
        records = [{"key": user_key(TENANT, one.user_id), "value": wire.encode(one)} for one in some]
        assert producer.produce_batch(topic, records) == len(records), "the producer's queue is full"
        producer.poll(0)
    assert producer.flush(60) == 0, "Kafka has not taken the input"


def event(number: int, created_at: datetime, lane: Lane = "normal") -> Event:
    """The event with this number."""
    return Event(
        event_id=f"bench-{number}",
        user_id=f"u{number % USERS}",
        tenant=TENANT,
        type=TYPE,
        priority=lane,
        created_at=created_at,
        data={
            "flight": f"UA {number % 9_000}",
            "carrier": "United",
            "origin": "EWR",
            "destination": "IAH",
            "scheduled": "05:25",
        },
    )


def delivered_as(channel: Channel, number: int) -> str:
    """The id of the delivery of the event with this number."""
    user = number % USERS
    return delivery_id(TENANT, f"u{user}", f"bench-{number}", channel, _address_id(user, channel))


def delivery(channel: Channel, found: Sequence[str], number: int, wire: Wire, now: datetime) -> Delivery:
    """The delivery with this number."""
    user = number % USERS
    made = event(number, now - _AGE)
    return Delivery(
        delivery_id=delivered_as(channel, number),
        event_id=made.event_id,
        user_id=made.user_id,
        tenant=TENANT,
        type=TYPE,
        category="flights",
        channel=channel,
        lane="normal",
        address_id=_address_id(user, channel),
        address=found[user],
        locale="en",
        template_version=1,
        expires_at=now + timedelta(days=1),
        profile_version=_VERSION,
        decided_at=now - _AGE,
        event=wire.encode(made),
    )


def _address_id(user: int, channel: Channel) -> str:
    return str(uuid5(NAMESPACE_OID, f"{user}/{channel}"))
