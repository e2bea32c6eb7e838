"""The router's input: events of many users, one in ten a repeat, and the users' profiles.

Everything follows from the number of a user, so that what must come out can be worked out apart from
the product: a user has an address on a channel, and wants it, by four bits of a multiplicative hash.
"""

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import NAMESPACE_OID, UUID, uuid5

from confluent_kafka import Producer

from pipeline.adapters.wire.codec import Wire
from pipeline.model.event import Channel, Event
from pipeline.model.profile import Address, Profile

CHANNELS: tuple[Channel, ...] = ("apns", "fcm", "sms", "email")
TENANT = "bench"
_RECENT = 5_000  # a repeat is one of the last so many
_BATCH = 5_000  # records of one produce_batch


@dataclass(frozen=True, slots=True, kw_only=True)
class Expected:
    """What a correct router makes of the input."""

    events: int
    unique: int
    deliveries: frozenset[tuple[str, str]]  # (event id, channel)


def wants(user: int) -> tuple[Channel, ...]:
    """The channels of a user."""
    bits = (user * 2654435761 >> 8) & 15
    return tuple(channel for bit, channel in enumerate(CHANNELS) if bits >> bit & 1)


def profiles(users: int, now: datetime) -> Iterator[Profile]:
    """Everybody, each with an address on every channel and an opt-out of those that are not wanted."""
    for user in range(users):
        name = f"u{user}"
        wanted = wants(user)
        yield Profile(
            tenant=TENANT,
            user_id=name,
            version=1,
            addresses=tuple(
                Address(
                    address_id=str(uuid5(NAMESPACE_OID, f"{name}/{channel}")),
                    channel=channel,
                    value=f"{channel}-{user}",
                    registered_at=now,
                )
                for channel in CHANNELS
            ),
            preferences={("orders", channel): False for channel in CHANNELS if channel not in wanted},
        )


def publish(servers: str, topic: str, events: int, users: int, wire: Wire, now: datetime) -> Expected:
    """Write the input; the same for the same numbers."""
    producer = Producer(
        {
            "bootstrap.servers": servers,
            "partitioner": "murmur2_random",
            "linger.ms": 20,
            "compression.type": "lz4",
            "queue.buffering.max.messages": 2_000_000,
        }
    )
    chance = random.Random(1)
    sent: list[dict[str, bytes]] = []
    batch: list[dict[str, bytes]] = []
    deliveries: set[tuple[str, str]] = set()
    for _ in range(events):
        if sent and chance.random() < 0.1:
            record = sent[chance.randrange(max(0, len(sent) - _RECENT), len(sent))]
        else:
            user = chance.randrange(users)
            made = _event(user, chance, now)
            record = {"value": wire.encode(made), "key": made.key}
            sent.append(record)
            deliveries.update((made.event_id, channel) for channel in wants(user))
        batch.append(dict(record))
        if len(batch) == _BATCH:
            _write(producer, topic, batch)
            batch = []
    _write(producer, topic, batch)
    producer.flush(60)
    return Expected(events=events, unique=len(sent), deliveries=frozenset(deliveries))


def _event(user: int, chance: random.Random, now: datetime) -> Event:
    return Event(
        event_id=str(UUID(int=chance.getrandbits(128), version=4)),
        user_id=f"u{user}",
        tenant=TENANT,
        type="order.shipped",
        created_at=now,
        data={"order": "123", "name": "Kim", "carrier": "DHL", "eta": "tomorrow"},
    )


def _write(producer: Producer, topic: str, batch: Sequence[dict[str, bytes]]) -> None:
    if batch:
        written = producer.produce_batch(topic, list(batch))
        assert written == len(batch), "the producer's queue is full"
        producer.poll(0)
