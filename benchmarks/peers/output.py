"""What a peer writes: its topics, and what stands in them."""

from collections.abc import Iterator
from pathlib import Path

from confluent_kafka.admin import AdminClient, NewTopic
from fastavro import schemaless_reader
from fastavro.schema import load_schema

from benchmarks.load import CHANNELS
from benchmarks.measure import PARTITIONS, committed_values

SCHEMA = Path(__file__).parent / "delivery.avsc"


def create(servers: str, run: str) -> None:
    """Make the output topics of a run."""
    admin = AdminClient({"bootstrap.servers": servers})
    for made in admin.create_topics([NewTopic(f"{run}-{c}", PARTITIONS, 1) for c in CHANNELS]).values():
        made.result(30)


def written(servers: str, run: str) -> Iterator[tuple[str, str]]:
    """(event id, channel) of every delivery that the peer wrote."""
    schema = load_schema(str(SCHEMA))
    for channel in CHANNELS:
        for stream in committed_values(servers, f"{run}-{channel}"):
            stream.seek(5)
            record = schemaless_reader(stream, schema, None)
            yield record["event_id"], record["channel"]  # pyright: ignore[reportCallIssue, reportArgumentType, reportIndexIssue, reportOptionalSubscript, reportUnknownVariableType] - a record is a dict
