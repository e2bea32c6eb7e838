"""Write `serde.lock` anew, for who changes a version: `python -m tests.integration.java.lock`.

The file lists the jars that `tests/support/java.py` needs beside the broker's own.
"""

import hashlib
import tempfile
from collections.abc import Iterator
from pathlib import Path

from jgo.maven import Artifact, MavenContext, PythonResolver

from infra.embedded.kafka import VERSION as KAFKA

SERDE = "3.0.9"
# The deserialiser's own jars. They are named one by one, because the parent that their POMs refer to
# (apicurio-registry:3.0.9) was not published with them, so no resolver can follow it.
OWN = (
    "avro-serde-kafka",
    "serde-kafka-common",
    "serde-common-avro",
    "serde-common",
    "schema-resolver",
    "common",
)
SDK = "io.apicurio:apicurio-registry-java-sdk:3.0.7"  # the nearest that was published; resolvable
AVRO = "org.apache.avro:avro:1.12.2"
CONSUMER = f"org.apache.kafka:kafka-tools:{KAFKA}"  # the console consumer, which a broker does without
# The broker brings a newer Jackson; the rest came along from the SDK's tests.
LEFT_OUT = ("jackson", "mockito", "byte-buddy", "objenesis", "error_prone")

HEAD = f"""\
# The files of apicurio-serde-{SERDE}: coordinate, packaging, classifier, bytes, SHA-256.
# Written by `python -m tests.integration.java.lock`; a download that differs is refused.
"""


def _artifacts(context: MavenContext) -> Iterator[Artifact]:
    for coordinate in (*(f"io.apicurio:apicurio-registry-{name}:{SERDE}" for name in OWN), AVRO, CONSUMER):
        group, artifact, version = coordinate.split(":")
        yield context.project(group, artifact).at_version(version).artifact("", "jar")
    own, others = context.resolver.resolve([context.create_dependency(SDK)])
    yield from (each.artifact for each in own)
    for each in others:
        if each.scope in {"compile", "runtime"} and not each.artifact.artifactId.startswith(LEFT_OUT):
            yield each.artifact


def _line(artifact: Artifact) -> str:
    content = artifact.resolve().read_bytes()
    coordinate = f"{artifact.groupId}:{artifact.artifactId}:{artifact.version}"
    return f"{coordinate} jar - {len(content)} {hashlib.sha256(content).hexdigest()}\n"


def main() -> None:
    """Resolve what the versions above need, and write it down."""
    with tempfile.TemporaryDirectory() as repository:
        context = MavenContext(repo_cache=Path(repository), resolver=PythonResolver())
        text = HEAD + "".join(sorted({_line(artifact) for artifact in _artifacts(context)}))
    (Path(__file__).parent / "serde.lock").write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
