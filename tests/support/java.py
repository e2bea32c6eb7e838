"""Kafka's own console consumer with Apicurio's Avro deserialiser: a reader that nobody here wrote.

It needs no compiler: the consumer prints what the deserialiser made of each record, as JSON.
"""

import json
import os
import subprocess
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from threading import Timer
from typing import Any

from infra.embedded import jars, kafka, packages, registry
from tests.support import services

LOCK = Path(__file__).parents[1] / "integration" / "java" / "serde.lock"
NAME = "apicurio-serde-3.0.9"
_LONGEST = 120.0  # seconds for one reading; 4 on a quiet machine
_JVM = (*kafka.QUICK_JVM, "--sun-misc-unsafe-memory-access=allow", "-Dstdout.encoding=UTF-8")


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """One record as the Java side read it."""

    partition: int
    offset: int
    key: str
    value: Mapping[str, Any]  # instants are milliseconds since 1970, bytes are text with a character each


def read(servers: str, topics: str, registry_url: str, count: int) -> list[Seen]:
    """`count` committed records of the topics that match, from their beginning.

    `registry_url` is that of the Confluent API; the deserialiser itself uses Apicurio's own API beside it.
    Fails with what the consumer said when it reads fewer.
    """
    command = _command(servers, topics, registry_url, count)
    with tempfile.TemporaryFile("w+", encoding="utf-8") as said:
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=said, text=True, encoding="utf-8")
        watch = Timer(_LONGEST, process.kill)
        watch.start()
        try:
            assert process.stdout is not None
            seen = [_seen(line) for _, line in zip(range(count), process.stdout, strict=False)]
        finally:
            watch.cancel()
            process.kill()  # the deserialiser's event loop would keep the process for ever
            process.communicate()
        said.seek(0)
        assert len(seen) == count, said.read()
    return seen


def _command(servers: str, topics: str, registry_url: str, count: int) -> tuple[str, ...]:
    broker = jars.fetch(kafka.bundle(), services.cache(), lambda *_: None)
    reader = jars.fetch(jars.read(NAME, str(LOCK)), services.cache(), lambda *_: None)
    settings = (f"{name}={value}" for name, value in _settings(registry_url))
    return (
        *packages.java(_JVM, os.pathsep.join((f"{broker}/*", f"{reader}/*"))),
        "org.apache.kafka.tools.consumer.ConsoleConsumer",
        *("--bootstrap-server", servers, "--include", topics, "--from-beginning"),
        *("--isolation-level", "read_committed", "--max-messages", str(count)),
        *(word for setting in settings for word in ("--formatter-property", setting)),
    )


def _settings(registry_url: str) -> Iterator[tuple[str, str]]:
    yield from (("print.partition", "true"), ("print.offset", "true"), ("print.key", "true"))
    deserialiser = "value.deserializer"
    yield deserialiser, "io.apicurio.registry.serde.avro.AvroKafkaDeserializer"
    for name, value in {
        "url": registry_url.replace(registry.API, "/apis/registry/v3"),
        # The number in Confluent's wire format is what Apicurio calls a content id, in 4 bytes.
        "use-id": "contentId",
        "id-handler": "io.apicurio.registry.serde.Default4ByteIdHandler",
        "headers.enabled": "false",
    }.items():
        yield f"{deserialiser}.apicurio.registry.{name}", value


def _seen(line: str) -> Seen:
    partition, offset, key, value = line.rstrip("\n").split("\t", 3)
    return Seen(
        partition=int(partition.removeprefix("Partition:")),
        offset=int(offset.removeprefix("Offset:")),
        key=key,
        value=json.loads(value),
    )
