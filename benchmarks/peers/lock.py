"""Write the peers' lock files anew, for who changes a version: `python -m benchmarks.peers.lock`."""

import tempfile
from pathlib import Path

from jgo.maven import MavenContext, PythonResolver

from infra.embedded import kafka
from infra.embedded.lock import alone, closure, line

STREAMS = f"org.apache.kafka:kafka-streams:{kafka.VERSION}"
AVRO = "org.apache.avro:avro:1.12.1"
COMPILER = "org.eclipse.jdt:ecj:3.43.0"  # the runtime that we ship has no compiler

HEAD = """\
# The files of the Kafka Streams peer: coordinate, packaging, classifier, bytes, SHA-256.
# Written by `python -m benchmarks.peers.lock`; a download that differs is refused.
"""


def main() -> None:
    """Resolve what the peer needs, and write it down."""
    with tempfile.TemporaryDirectory() as repository:
        context = MavenContext(repo_cache=Path(repository), resolver=PythonResolver())
        files = [*closure(context, STREAMS), alone(context, AVRO), alone(context, COMPILER)]
        text = HEAD + "".join(sorted(line(file) for file in files))
    (Path(__file__).parent / "kafka_streams" / "streams.lock").write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
