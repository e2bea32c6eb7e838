"""Write the lock files anew, for who changes a version: `python -m tests.integration.java.lock`.

`serde.lock` lists the jars that `tests/support/java.py` needs beside the broker's own, `pushy.lock` those of
`tests/support/mock_apns.py`.
"""

import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path

from jgo.maven import Artifact, MavenContext, PythonResolver

from infra.embedded.kafka import VERSION as KAFKA
from infra.embedded.lock import alone, closure, line

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

PUSHY = "com.eatthepath:pushy:0.15.4"  # the POMs of 0.15.6 name a parent that is not there
COMPILER = "org.eclipse.jdt:ecj:3.43.0"  # the runtime that we ship has no compiler

HEAD = """\
# The files of {}: coordinate, packaging, classifier, bytes, SHA-256.
# Written by `python -m tests.integration.java.lock`; a download that differs is refused.
"""


def _artifacts(context: MavenContext) -> Iterator[Artifact]:
    for coordinate in (*(f"io.apicurio:apicurio-registry-{name}:{SERDE}" for name in OWN), AVRO, CONSUMER):
        yield alone(context, coordinate)
    own, others = context.resolver.resolve([context.create_dependency(SDK)])
    yield from (each.artifact for each in own)
    for each in others:
        if each.scope in {"compile", "runtime"} and not each.artifact.artifactId.startswith(LEFT_OUT):
            yield each.artifact


def _write(file: str, name: str, artifacts: Iterable[Artifact]) -> None:
    text = HEAD.format(name) + "".join(sorted({line(artifact) for artifact in artifacts}))
    (Path(__file__).parent / file).write_text(text, encoding="utf-8")


def main() -> None:
    """Resolve what the versions above need, and write it down."""
    with tempfile.TemporaryDirectory() as repository:
        context = MavenContext(repo_cache=Path(repository), resolver=PythonResolver())
        _write("serde.lock", f"apicurio-serde-{SERDE}", _artifacts(context))
        pushy = [*closure(context, PUSHY), alone(context, COMPILER)]
        _write("pushy.lock", f"pushy-{PUSHY.rpartition(':')[2]}", pushy)


if __name__ == "__main__":
    main()
