"""One Apicurio Registry on the loopback address, on the Java of the broker: for tests of the real ids.

It keeps its schemas in memory: what a test registers is gone with it. 158 MB, fetched when first used.
"""

import http.client
from dataclasses import dataclass
from pathlib import Path

from infra.embedded import jars, packages
from infra.embedded.ports import HOST
from infra.embedded.supervisor import Program

VERSION = "3.3.3"
COORDINATE = f"io.apicurio:apicurio-registry-app:{VERSION}"
LOCK = "registry.lock"
NAME = f"apicurio-registry-{VERSION}"
API = "/apis/ccompat/v7"  # Confluent's API, which confluent-kafka's client speaks

JVM = ("-Xmx384m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1")  # it lives for a minute: start, not peak


def bundle() -> jars.Bundle:
    """The archive that the registry comes in."""
    return jars.read(NAME, LOCK)


def unpacked(cache: Path, progress: jars.Progress) -> Path:
    """The registry's directory, fetched and unpacked once. Raises DependencyDown as `jars.fetch`."""
    directory = jars.fetch(bundle(), cache, progress)
    return jars.unpack(directory / bundle().jars[0].filename, directory / "app")


@dataclass(frozen=True, slots=True, kw_only=True)
class Registry:
    """A registry that could run."""

    files: Path  # as unpacked
    port: int
    management_port: int

    @property
    def url(self) -> str:
        """What goes into SCHEMA_REGISTRY_URL."""
        return f"http://{HOST}:{self.port}{API}"

    def program(self) -> Program:
        """How the supervisor runs it."""
        return Program(name="registry", argv=self._argv(), env=self._environment(), service=True)

    def ready(self, timeout: float) -> bool:
        """Whether the API answers within `timeout` seconds."""
        connection = http.client.HTTPConnection(HOST, self.port, timeout=timeout)
        try:
            connection.request("GET", f"{API}/subjects")
            return connection.getresponse().status == http.HTTPStatus.OK
        except (OSError, http.client.HTTPException):
            return False
        finally:
            connection.close()

    def _argv(self) -> tuple[str, ...]:
        return (
            *packages.java(JVM, str(self.files / "quarkus-run.jar")),
            "io.quarkus.bootstrap.runner.QuarkusEntryPoint",
        )

    def _environment(self) -> dict[str, str]:
        """Quarkus listens on every address unless it is told not to, and on two ports."""
        return {
            "QUARKUS_HTTP_HOST": HOST,
            "QUARKUS_HTTP_PORT": str(self.port),
            "QUARKUS_MANAGEMENT_HOST": HOST,
            "QUARKUS_MANAGEMENT_PORT": str(self.management_port),
        }
