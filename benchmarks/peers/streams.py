"""Kafka Streams on the bare job: its files, how it is compiled and started, what it wrote."""

import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from confluent_kafka.admin import AdminClient, NewTopic
from fastavro import schemaless_reader
from fastavro.schema import load_schema

from benchmarks.load import CHANNELS
from benchmarks.measure import committed_values
from infra.embedded import jars, packages
from pipeline.adapters.wire.ids import SCHEMAS

HERE = Path(__file__).parent
NAME = "kafka-streams-4.3.1"
_COMPILE = 120  # seconds


@dataclass(frozen=True, slots=True, kw_only=True)
class Streams:
    """The compiled job."""

    files: Path
    classes: Path

    def start(
        self, servers: str, run: str, topic: str, threads: int, users: int, state: Path
    ) -> "subprocess.Popen[bytes]":
        """Run the job under the application id `run`; its output topics are made first."""
        admin = AdminClient({"bootstrap.servers": servers})
        for made in admin.create_topics([NewTopic(f"{run}-{c}", 4, 1) for c in CHANNELS]).values():
            made.result(30)
        class_path = f"{self.classes}:{self.files}/*"
        event, delivery = SCHEMAS / "event.avsc", HERE / "delivery.avsc"
        arguments = (servers, run, topic, f"{run}-", threads, users, event, delivery, state)
        return subprocess.Popen(
            [*packages.java(("-Xmx2g",), class_path), "Router", *map(str, arguments)],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )


def compiled(cache: Path, scratch: Path) -> Streams:
    """Fetch the files and compile the job. Raises DependencyDown when they can't be had."""
    bundle = jars.read(NAME, str(HERE / "kafka_streams" / "streams.lock"))
    files = jars.fetch(bundle, cache, lambda *_: None)
    compiler = next(files.glob("ecj-*.jar"))
    class_path = ":".join(map(str, files.glob("*.jar")))
    classes = scratch / "classes"
    # Not --release: the runtime that we ship has no table of older releases.
    options = ("-source", "21", "-target", "21", "-proc:none", "-cp", class_path, "-d", str(classes))
    command = [
        *packages.java((), str(compiler)),
        "org.eclipse.jdt.internal.compiler.batch.Main",
        *options,
        str(HERE / "kafka_streams" / "Router.java"),
    ]
    subprocess.run(command, check=True, timeout=_COMPILE)
    return Streams(files=files, classes=classes)


def written(servers: str, run: str) -> Iterator[tuple[str, str]]:
    """(event id, channel) of every delivery that the job wrote."""
    schema = load_schema(str(HERE / "delivery.avsc"))
    for channel in CHANNELS:
        for stream in committed_values(servers, f"{run}-{channel}"):
            stream.seek(5)
            record = schemaless_reader(stream, schema, None)
            yield record["event_id"], record["channel"]  # pyright: ignore[reportCallIssue, reportArgumentType, reportIndexIssue, reportOptionalSubscript, reportUnknownVariableType] - a record is a dict
