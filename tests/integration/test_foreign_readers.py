"""Readers that nobody here wrote agree with ours: confluent-kafka's, and Apicurio's on Java."""

import os
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import fields, is_dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka import KafkaException, Message, Producer
from confluent_kafka.admin import AdminClient, NewTopic
from confluent_kafka.schema_registry.avro import AvroDeserializer

from infra.demo.flights import DAY
from infra.demo.passengers import TENANT
from infra.embedded import stack
from pipeline.adapters.wire.codec import Wire
from pipeline.adapters.wire.registry import RegistryIds, connect, register_all
from pipeline.model.topics import table
from pipeline.ports import Record
from tests.support import java, services
from tests.support.golden import RECORDS, examples
from tests.support.topics import lag, read_tenant

pytestmark = pytest.mark.integration
EVERPOST = (sys.executable, "-m", "pipeline.cli.main")
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_FLIGHTS = 150  # of the day; some forty are cancelled or late


@pytest.fixture(scope="module")
def wire(registry: str) -> Wire:
    """Our codec, with the ids of a registry that holds every schema."""
    register_all(registry, table())
    return Wire(RegistryIds(registry, table()))


def plain(value: Any) -> Any:
    """A record of ours as the libraries hand it out: maps, lists and values."""
    if is_dataclass(value):
        return {field.name: plain(getattr(value, field.name)) for field in fields(value)}
    if isinstance(value, Mapping):
        return {key: plain(item) for key, item in value.items()}
    if isinstance(value, tuple):
        return [plain(item) for item in value]
    return value


def as_java(value: Any) -> Any:
    """The same as Java prints it: instants in milliseconds, bytes as characters."""
    match value:
        case dict():
            return {key: as_java(item) for key, item in value.items()}
        case list():
            return [as_java(item) for item in value]
        case datetime():
            return (value - _EPOCH) // timedelta(milliseconds=1)
        case bytes():
            return value.decode("latin-1")
        case _:
            return value


def agree(
    servers: str, registry: str, pattern: str, messages: Sequence[Message], ours: Sequence[Record]
) -> None:
    """Both foreign readers make of the messages what our decoder makes of them, field by field."""
    expected = [plain(record) for record in ours]
    with connect(registry) as client:
        theirs: Callable[[bytes], object] = AvroDeserializer(client)  # pyright: ignore[reportCallIssue] - made so
        assert [theirs(_value(message)) for message in messages] == expected
    seen = java.read(servers, pattern, registry, len(messages))
    assert sorted(((one.partition, one.offset, one.key, one.value) for one in seen), key=repr) == sorted(
        (
            (message.partition(), message.offset(), _key(message), as_java(record))
            for message, record in zip(messages, expected, strict=True)
        ),
        key=repr,
    )


def _value(message: Message) -> bytes:
    value = message.value()
    assert isinstance(value, bytes)
    return value


def _key(message: Message) -> str:
    key = message.key()
    assert isinstance(key, bytes)
    return key.decode()


@pytest.mark.parametrize("name", RECORDS)
def test_golden_records_are_read_alike(kafka: str, registry: str, wire: Wire, name: str) -> None:
    """Every kind of value in every record: instants, maps, unions, 64-bit numbers, letters of all sorts."""
    records = [example.record for example in examples() if example.name == name]
    topic = f"golden.{name}"
    admin = AdminClient({"bootstrap.servers": kafka})  # has to outlive what it promised
    admin.create_topics([NewTopic(topic, 1, 1)])[topic].result(60)
    producer = Producer({"bootstrap.servers": kafka})
    for record in records:
        producer.produce(topic, wire.encode(record), key="acme/u-1")
    assert producer.flush(60) == 0
    messages = read_tenant(kafka, topic, "acme")
    assert len(messages) == len(records) > 0
    agree(kafka, registry, f"golden[.]{name}", messages, records)


def test_a_demo_run_is_read_alike(home: Path, registry: str, wire: Wire) -> None:
    """With SCHEMA_REGISTRY_URL set, every record that the demo leaves behind reads the same everywhere."""
    flights = home / "flights.csv"
    flights.write_text("".join(_lines(DAY)), encoding="utf-8")
    (home / "cache").symlink_to(services.cache())
    done = subprocess.run(
        [
            *EVERPOST,
            "demo",
            "--exit",
            "--json",
            "--seconds",
            "5",
            "--people",
            "200",
            "--flights",
            str(flights),
        ],
        env=os.environ | {"EVERPOST_HOME": str(home), "SCHEMA_REGISTRY_URL": registry},
        capture_output=True,
        text=True,
        check=False,
        timeout=240,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    with stack.up(home / "demo", cache=services.cache(), report=lambda _: None) as running:
        servers = running.bootstrap_servers
        services.until(lambda: _led(servers))
        for name in ("event", "decision", "delivery", "outcome"):
            topics = [topic.name for topic in table() if topic.schema == name]
            messages = [message for topic in topics for message in read_tenant(servers, topic, TENANT)]
            assert len(messages) > 10, name
            ours = [wire.decode(RECORDS[name], _value(message)) for message in messages]
            agree(servers, registry, "|".join(topics), messages, ours)


def _led(servers: str) -> bool:
    """Whether every partition has found its leader after the start."""
    try:
        return lag(servers, "foreign-readers", [topic.name for topic in table()]) >= 0
    except KafkaException:
        return False


def _lines(day: Path) -> Iterator[str]:
    with day.open(encoding="utf-8") as file:
        yield from (line for line, _ in zip(file, range(_FLIGHTS), strict=False))
