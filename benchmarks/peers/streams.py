"""Kafka Streams on the bare job: its files, how it is compiled and started."""

import subprocess
from dataclasses import dataclass
from pathlib import Path

from benchmarks.peers import output
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
        self, servers: str, run: str, topic: str, workers: int, users: int, state: Path
    ) -> "list[subprocess.Popen[bytes]]":
        """Run the job in so many threads under the application id `run`; its output topics are made first."""
        output.create(servers, run)
        class_path = f"{self.classes}:{self.files}/*"
        event, delivery = SCHEMAS / "event.avsc", output.SCHEMA
        arguments = (servers, run, topic, f"{run}-", workers, users, event, delivery, state)
        command = [*packages.java(("-Xmx2g",), class_path), "Router", *map(str, arguments)]
        return [subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)]


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
