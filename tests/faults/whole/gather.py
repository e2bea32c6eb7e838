"""What the log says and what the providers received, read again from the beginning when all is over."""

import asyncio
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import datetime
from pathlib import Path

from confluent_kafka import Message

from pipeline.adapters.postgres.pool import session
from pipeline.adapters.wire.codec import Wire
from pipeline.model.decision import Decision
from pipeline.model.delivery import Delivery
from pipeline.model.errors import Unreadable
from pipeline.model.event import CHANNELS, LANES, Event
from pipeline.model.hold import Hold
from pipeline.model.ladder import TIERS
from pipeline.model.outcome import Outcome
from pipeline.model.topics import DEAD, DECISIONS, HOLDS, OUTCOMES, RELEASED, deliver, events, retry
from pipeline.settings import Settings
from pipeline.wiring import pool, wire
from tests.faults.whole.books import Accepted, Attempt, Books, Decided, Taken, Waiting
from tests.support.topics import read_topic, unread

OUTPUT = (DECISIONS, HOLDS, *(deliver(channel, lane) for channel in CHANNELS for lane in LANES))
_CHANNEL = {"apns": "apns", "fcm": "fcm", "webpush": "webpush", "vonage": "sms", "smtp": "email"}


def gather(
    current: Settings,
    accepted: Sequence[Accepted],
    poison: frozenset[bytes],
    deaths: Mapping[str, Sequence[float]],
) -> Books:
    """The books of a run."""
    servers, codec = current.bootstrap_servers, wire(current)
    return Books(
        accepted=accepted,
        decided=[_decided(codec, message) for message in read_topic(servers, DECISIONS)],
        outcomes=[_attempt(codec, message) for message in read_topic(servers, OUTCOMES)],
        received=list(_received(current.home / "providers" / "received.jsonl")),
        waiting=_waiting(current, codec),
        poison=poison,
        kept=frozenset(message.value() or b"" for message in read_topic(servers, DEAD)),
        kills={
            channel: sorted(
                at for name in (f"send-{channel}", "retry", "providers") for at in deaths.get(name, ())
            )
            for channel in CHANNELS
        },
    )


def _decided(codec: Wire, message: Message) -> Decided:
    found = codec.decode(Decision, message.value())
    return Decided(
        event_id=found.event_id,
        verdict=found.verdict,
        place=(found.source_topic, found.source_partition, found.source_offset),
        deliveries=tuple((planned.delivery_id, planned.channel) for planned in found.deliveries),
    )


def _attempt(codec: Wire, message: Message) -> Attempt:
    found = codec.decode(Outcome, message.value())
    return Attempt(
        delivery_id=found.delivery_id,
        result=found.outcome,
        state=found.state,
        place=(found.source_topic, found.source_partition, found.source_offset),
        at=message.timestamp()[1] / 1000,  # not the outcome's own: some clocks are put wrong
    )


def _received(file: Path) -> Iterator[Taken]:
    with file.open(encoding="utf-8") as lines:
        for line in lines:
            row = json.loads(line)
            if row["accepted"]:
                yield Taken(
                    delivery_id=row["delivery_id"],
                    channel=_CHANNEL[row["provider"]],
                    at=datetime.fromisoformat(row["at"]).timestamp(),
                    told=row["status"].startswith("2"),  # each provider's yes; a silence has a name
                )


def _waiting(current: Settings, codec: Wire) -> Waiting:
    servers = current.bootstrap_servers
    queues = [
        *((f"everpost.send.{c}", [deliver(c, lane) for lane in LANES]) for c in CHANNELS),
        ("everpost.retry", [retry(tier.name) for tier in TIERS]),
    ]
    read = [
        *_ids(unread(servers, "everpost.route", [events(lane) for lane in LANES]), _of(codec, Event)),
        *_ids(unread(servers, "everpost.route", [RELEASED]), _of(codec, Hold)),
        *_ids(unread(servers, "everpost.hold", [HOLDS]), _of(codec, Hold)),
        *asyncio.run(_stored(current, codec)),
    ]
    return Waiting(
        events=frozenset(read),
        deliveries=frozenset(
            id
            for group, topics in queues
            for id in _ids(
                unread(servers, group, topics), lambda value: codec.decode(Delivery, value).delivery_id
            )
        ),
    )


def _of(codec: Wire, kind: type[Event] | type[Hold]) -> Callable[[bytes], str]:
    return lambda value: codec.decode(kind, value).event_id


def _ids(messages: Sequence[Message], id_of: Callable[[bytes], str]) -> Iterator[str]:
    for message in messages:
        try:
            yield id_of(message.value() or b"")
        except Unreadable:
            continue


async def _stored(current: Settings, codec: Wire) -> list[str]:
    """What waits in the database: rows of the outbox, and timers."""
    async with pool(current) as connections, session(connections) as connection:
        rows = await connection.fetch(
            "select event_id from everpost.outbox union all select event_id from everpost.outbox_parked"
        )
        timers = await connection.fetch("select value from everpost.timer")
    return [
        *(row["event_id"] for row in rows),
        *(codec.decode(Hold, row["value"]).event_id for row in timers),
    ]
