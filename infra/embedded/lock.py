"""Write the lock files anew, for who changes a version: `python -m infra.embedded.lock`."""

import hashlib
import tempfile
from collections.abc import Iterable
from pathlib import Path

from jgo.maven import Artifact, MavenContext, PythonResolver

from infra.embedded import kafka, registry

HEAD = """\
# The files of {name}: coordinate, packaging, classifier, bytes, SHA-256.
# Written by `python -m infra.embedded.lock`; a download that differs is refused.
"""


def closure(context: MavenContext, coordinate: str) -> list[Artifact]:
    """A coordinate and all that it needs when it runs."""
    own, others = context.resolver.resolve([context.create_dependency(coordinate)])
    return [each.artifact for each in own] + [
        each.artifact for each in others if each.scope in ("compile", "runtime")
    ]


def alone(context: MavenContext, coordinate: str, classifier: str = "", packaging: str = "jar") -> Artifact:
    """One file without its dependencies. Resolved beside Kafka, log4j's POM would pull in Kafka 3.9."""
    group, artifact, version = coordinate.split(":")
    return context.project(group, artifact).at_version(version).artifact(classifier, packaging)


def line(artifact: Artifact) -> str:
    """The line of a lock file."""
    content = artifact.resolve().read_bytes()
    coordinate = f"{artifact.groupId}:{artifact.artifactId}:{artifact.version}"
    digest = hashlib.sha256(content).hexdigest()
    return f"{coordinate} {artifact.packaging} {artifact.classifier or '-'} {len(content)} {digest}\n"


def _write(file: str, name: str, artifacts: Iterable[Artifact]) -> None:
    text = HEAD.format(name=name) + "".join(sorted(line(artifact) for artifact in artifacts))
    (Path(__file__).parent / file).write_text(text, encoding="utf-8")


def main() -> None:
    """Resolve what the versions in kafka.py and registry.py need, and write it down."""
    with tempfile.TemporaryDirectory() as repository:
        context = MavenContext(repo_cache=Path(repository), resolver=PythonResolver())
        broker = [*closure(context, kafka.COORDINATE), alone(context, kafka.LOG4J_BRIDGE)]
        _write(kafka.LOCK, kafka.NAME, broker)
        _write(registry.LOCK, registry.NAME, [alone(context, registry.COORDINATE, "all", "tar.gz")])


if __name__ == "__main__":
    main()
