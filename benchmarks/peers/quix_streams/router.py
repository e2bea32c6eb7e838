"""The bare job on Quix Streams, exactly-once: drop ids seen before, look the user's channels up in memory,
write one record for each. It runs in an environment of its own, whose client is older than ours.

    python router.py SERVERS RUN TOPIC USERS EVENT.avsc DELIVERY.avsc STATE_DIRECTORY

The output topics RUN-apns, … must exist.
"""

import io
import sys
from typing import Any

from fastavro import schemaless_reader, schemaless_writer
from fastavro.schema import load_schema
from quixstreams import Application  # pyright: ignore[reportMissingImports]
from quixstreams.models import TopicConfig  # pyright: ignore[reportMissingImports]

CHANNELS = ("apns", "fcm", "sms", "email")
HEAD = b"\0\0\0\0\2"
CARRIED = ("event_id", "user_id", "type", "created_at", "data")


class Job:
    """One record in, at most four out."""

    def __init__(self, users: int, event: str, delivery: str) -> None:
        self.event = load_schema(event)
        self.delivery = load_schema(delivery)
        self.wanted = {f"u{user}": user * 2654435761 >> 8 & 15 for user in range(users)}

    def route(self, value: bytes, state: Any) -> list[tuple[str, bytes]]:
        """What becomes of an event: (channel, delivery)."""
        event: Any = schemaless_reader(io.BytesIO(value[len(HEAD) :]), self.event, None)
        if state.exists(event["event_id"]):
            return []
        state.set(event["event_id"], 1)
        bits = self.wanted[event["user_id"]]
        return [
            (channel, self.encode(event, channel)) for at, channel in enumerate(CHANNELS) if bits >> at & 1
        ]

    def encode(self, event: Any, channel: str) -> bytes:
        """The delivery's bytes."""
        target = f"{channel}-{event['user_id'][1:]}"
        carried = {name: event[name] for name in CARRIED}
        carried["created_at"] = int(carried["created_at"].timestamp() * 1000)
        body = io.BytesIO()
        body.write(HEAD)
        made = {**carried, "category": "orders", "channel": channel, "target": target}
        schemaless_writer(body, self.delivery, made)
        return body.getvalue()


def main(servers: str, run: str, topic: str, users: str, event: str, delivery: str, state: str) -> None:
    """Route until the process is stopped."""
    app = Application(
        broker_address=servers,
        consumer_group=run,
        processing_guarantee="exactly-once",
        auto_offset_reset="earliest",
        state_dir=state,
        commit_interval=0.1,
        producer_extra_config={"linger.ms": 5, "compression.type": "lz4"},
        loglevel="WARNING",
    )
    job = Job(int(users), event, delivery)
    source = app.topic(topic, value_deserializer="bytes", key_deserializer="bytes")
    routed = app.dataframe(source).apply(job.route, stateful=True, expand=True)
    for channel in CHANNELS:
        sink = app.topic(
            f"{run}-{channel}", value_serializer="bytes", key_serializer="bytes", config=TopicConfig(4, 1)
        )
        chosen = routed[routed.apply(lambda pair, channel=channel: pair[0] == channel)]
        chosen.apply(lambda pair: pair[1]).to_topic(sink)
    app.run()


if __name__ == "__main__":
    main(*sys.argv[1:])
