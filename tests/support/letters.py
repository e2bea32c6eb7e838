"""Dead letters for tests, and the real commands over them."""

import asyncio
import os
import sys
from collections.abc import Sequence
from typing import Any

import orjson

from pipeline.adapters.kafka.produce import KafkaProducer
from pipeline.model.dead import Cause, Letter, dead_letter
from pipeline.model.delivery import Delivery, delivery_id
from pipeline.model.event import Channel
from pipeline.model.record import Incoming, Outgoing
from pipeline.model.topics import DEAD, deliver
from tests.support.make import NOW, event
from tests.support.sending import WIRE, delivery

CHANNEL: Channel = "sms"
BUSY = Cause(disposition="exhausted", message="busy (1)", provider="vonage", code="1", attempts=6)


def dead(tenant: str, number: int, **changes: Any) -> Delivery:
    """A delivery that has used up its ladder; each of a user and an event of its own."""
    name = f"{tenant}-{number}"
    values: dict[str, Any] = {
        "tenant": tenant,
        "user_id": f"u-{number}",
        "delivery_id": delivery_id(tenant, f"u-{number}", name, CHANNEL, "a"),
        "attempt": 6,
        "first_attempt_at": NOW,
        "carried": event(name, f"u-{number}", tenant=tenant, data={"flight": f"UA {number}"}),
    }
    return delivery(name, CHANNEL, **{**values, **changes})


def letter(of: Delivery, cause: Cause = BUSY, **changes: Any) -> Outgoing:
    """The dead letter of a delivery."""
    values: dict[str, Any] = {
        "topic": deliver(of.channel, of.lane),
        "partition": 0,
        "offset": 0,
        "key": f"{of.tenant}/{of.user_id}".encode(),
        "value": WIRE.encode(of),
        "at": NOW,
    }
    return dead_letter(Incoming(**{**values, **changes}), cause, group="everpost.send.sms", stage="send")


def as_read(record: Outgoing, offset: int = 0, partition: int = 0) -> Letter:
    """A letter as a reader of the topic has it."""
    return Letter(
        DEAD,
        partition,
        offset,
        record.key,
        record.value or b"",
        int(NOW.timestamp() * 1000),
        dict(record.headers),
        record.headers,
    )


async def write(kafka: str, records: Sequence[Outgoing]) -> None:
    """Put records on their topics."""
    producer = await KafkaProducer.open(kafka, client_id="test")
    try:
        await producer.send_all(records)
    finally:
        await producer.aclose()


async def start(kafka: str, postgres: str, *words: str) -> asyncio.subprocess.Process:
    """The real command in a process of its own: `everpost dead …`."""
    environment = {**os.environ, "EVERPOST_BOOTSTRAP_SERVERS": kafka, "EVERPOST_POSTGRES_DSN": postgres}
    return await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "pipeline.cli.main",
        "dead",
        *words,
        env=environment,
        stdout=asyncio.subprocess.PIPE,
    )


async def command(kafka: str, postgres: str, *words: str, code: int = 0) -> Any:
    """What the command answers with --json."""
    process = await start(kafka, postgres, *words, "--json")
    out, _ = await asyncio.wait_for(process.communicate(), 120)
    assert process.returncode == code, out.decode()
    return orjson.loads(out.splitlines()[-1])
