"""The embedded services, really started, really killed."""

import asyncio
import json
import os
import signal
import subprocess
import sys
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import asyncpg
import psutil
import pytest
from confluent_kafka import Consumer, KafkaException, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic

from infra.embedded import ports, stack, state
from infra.embedded.stack import Stack
from pipeline.model.errors import ConfigurationError, DependencyDown
from tests.support import services

pytestmark = pytest.mark.integration

UP = Path(services.__file__).with_name("up.py")
TOPIC = "embedded.probe"
NO_NETWORK = {"HTTP_PROXY": "http://127.0.0.1:9", "HTTPS_PROXY": "http://127.0.0.1:9", "NO_PROXY": ""}


def make_topic(bootstrap_servers: str) -> None:
    """Create the topic of these tests."""
    admin = AdminClient({"bootstrap.servers": bootstrap_servers})
    admin.create_topics([NewTopic(TOPIC, 1, 1)])[TOPIC].result(30)


def produce(bootstrap_servers: str, *values: str) -> None:
    """Write records that the broker acknowledges."""
    producer = Producer({"bootstrap.servers": bootstrap_servers, "acks": "all", "log_level": 0})
    for value in values:
        producer.produce(TOPIC, value)
    assert producer.flush(30) == 0


def consume(bootstrap_servers: str) -> list[str]:
    """All records of the topic."""
    consumer = Consumer({"bootstrap.servers": bootstrap_servers, "group.id": "probe", "log_level": 0})
    partition = TopicPartition(TOPIC, 0, 0)
    try:
        consumer.assign([partition])
        _, end = consumer.get_watermark_offsets(partition, timeout=30)
        return [(message.value() or b"").decode() for message in consumer.consume(end, timeout=30)]
    finally:
        consumer.close()


def answers(bootstrap_servers: str) -> bool:
    """Whether the broker tells its topics."""
    try:
        admin = AdminClient({"bootstrap.servers": bootstrap_servers, "log_level": 0})
        return bool(admin.list_topics(timeout=1).brokers)
    except KafkaException:
        return False


def query(dsn: str, statement: str) -> Any:
    """One value from the database."""

    async def ask() -> Any:
        connection = await asyncpg.connect(dsn, timeout=5)
        try:
            return await connection.fetchval(statement, timeout=10)
        finally:
            await connection.close(timeout=5)

    return asyncio.run(ask())


def selects(dsn: str) -> bool:
    """Whether the server takes a query."""
    try:
        return query(dsn, "select 1") == 1
    except (OSError, asyncpg.PostgresError):
        return False


@pytest.fixture(scope="module")
def place() -> Generator[Path]:
    """One home for this module's stacks, one after the other, with a record and a row to keep."""
    with services.scratch() as path:
        with stack.up(path / "home", cache=services.cache(), report=lambda _: None) as running:
            make_topic(running.bootstrap_servers)
            produce(running.bootstrap_servers, "first")
            query(running.postgres_dsn, "create table probe as select 42 as answer")
        yield path / "home"


@contextmanager
def other_process(home: Path, **environment: str) -> Generator[tuple[subprocess.Popen[str], dict[str, Any]]]:
    """`up` in a process of its own, and what it printed when it was ready."""
    argv = [sys.executable, str(UP), str(home), str(services.cache())]
    with subprocess.Popen(
        argv,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, **environment},
    ) as process:
        try:
            assert process.stdout is not None
            yield process, json.loads(process.stdout.readline())
        finally:
            process.kill()


def family(pid: int) -> list[psutil.Process]:
    """All descendants of a process: leashes, services, stages, and the servers' own."""
    return psutil.Process(pid).children(recursive=True)


def ended(processes: Sequence[psutil.Process]) -> bool:
    """Whether none of them runs."""
    return not any(each.is_running() and each.status() != psutil.STATUS_ZOMBIE for each in processes)


def start(home: Path, *, kafka_port: int | None = None, cache: Path | None = None) -> None:
    """A start that is expected to fail."""
    cache = cache or services.cache()
    with stack.up(home, kafka_port=kafka_port, cache=cache, report=lambda _: None):
        pass


def restarts(running: Stack, name: str) -> int:
    """How often a program was started again."""
    return next(each.restarts for each in running.supervisor.status() if each.name == name)


async def test_database_is_durable(postgres: str) -> None:
    """A fresh database is empty, and a commit in it is on disk before it is acknowledged."""
    connection = await asyncpg.connect(postgres, timeout=10)
    try:
        settings = [await connection.fetchval(f"show {name}") for name in ("fsync", "synchronous_commit")]
        assert settings == ["on", "on"]
        assert await connection.fetchval("select count(*) from pg_tables where schemaname = 'public'") == 0
    finally:
        await connection.close()


def test_topics_come_from_the_table_only(kafka: str) -> None:
    """A record for a topic that nobody created is refused: the broker creates none by itself."""
    failures: list[str] = []
    producer = Producer({"bootstrap.servers": kafka, "message.timeout.ms": 3000, "log_level": 0})
    producer.produce("typo", "x", on_delivery=lambda error, _: failures.append(str(error)))
    producer.flush(30)
    assert failures
    assert "typo" not in AdminClient({"bootstrap.servers": kafka}).list_topics(timeout=10).topics


def test_killed_services_come_back_with_their_data(place: Path) -> None:
    """After kill -9 broker and database start again on the same ports with all that was acknowledged.

    The broker's old registration has ended before it leads anything.
    """
    with stack.up(place, cache=services.cache(), report=lambda _: None) as running:
        produce(running.bootstrap_servers, "before the kill")
        before = running.programs
        assert running.supervisor.kill("kafka")
        assert running.supervisor.kill("postgres")
        services.until(lambda: restarts(running, "kafka") == 1 and restarts(running, "postgres") == 1)
        services.until(lambda: selects(running.postgres_dsn))
        assert query(running.postgres_dsn, "select answer from probe") == 42
        services.until(lambda: answers(running.bootstrap_servers), deadline=60)
        produce(running.bootstrap_servers, "after the kill")
        assert {"first", "before the kill", "after the kill"} <= set(consume(running.bootstrap_servers))
        log = (place / "logs" / "broker.log").read_text(encoding="utf-8")
        assert "DUPLICATE_BROKER_REGISTRATION" not in log, (
            "led by the registration of the one that was killed"
        )
        services.until(lambda: running.programs.keys() == before.keys())
        assert not set(before.values()) & set(running.programs.values())


def test_second_up_finds_the_first(place: Path) -> None:
    """A second `up` in the same home says so and uses the first one's services, which outlive it."""
    told: list[str] = []
    with other_process(place) as (process, facts):
        assert facts["owned"]
        with stack.up(place, cache=services.cache(), report=told.append) as found:
            assert not found.owned
            assert found.bootstrap_servers == facts["bootstrap_servers"]
            assert found.postgres_dsn == facts["postgres_dsn"]
            services.until(lambda: set(found.programs) == {"kafka", "postgres", "stage"})
            with pytest.raises(ConfigurationError, match="belongs to another process"):
                found.supervisor.add("mine", ["/bin/true"])
        assert "runs in" in told[0]
        assert "first" in consume(facts["bootstrap_servers"])
        process.send_signal(signal.SIGINT)
        assert process.wait(30) == 0
    assert stack.find(place) is None


def test_offline_start_then_interrupt(place: Path) -> None:
    """With all files there a start needs no network, and Ctrl-C leaves no process behind."""
    with other_process(place, **NO_NETWORK) as (process, facts):
        processes = family(process.pid)
        assert "first" in consume(facts["bootstrap_servers"])
        process.send_signal(signal.SIGINT)
        assert process.wait(30) == 0
        assert ended(processes)
        assert len(processes) >= 6  # three leashes, broker, database, stage


def test_interrupt_while_starting(home: Path) -> None:
    """Ctrl-C in the middle of a first start ends it, and leaves no process behind."""
    argv = [sys.executable, str(UP), str(home / "home"), str(services.cache())]
    with subprocess.Popen(argv, stdout=subprocess.PIPE) as process:
        processes = services.until(lambda: family(process.pid))
        process.send_signal(signal.SIGINT)
        assert process.wait(60) == 0
        assert process.stdout is not None
        assert process.stdout.read() == b""
    services.until(lambda: ended(processes))


def test_crash_leaves_nothing_and_loses_nothing(place: Path) -> None:
    """After kill -9 of the process that runs the stack all others end too; the next start has data and ports."""
    with other_process(place) as (process, facts):
        processes = family(process.pid)
        produce(facts["bootstrap_servers"], "before the crash")
        process.kill()
        process.wait(10)
        services.until(lambda: ended(processes), deadline=40)
    assert state.read(place) is not None
    with stack.up(place, cache=services.cache(), report=lambda _: None) as running:
        assert running.bootstrap_servers == facts["bootstrap_servers"]
        assert {"first", "before the crash"} <= set(consume(running.bootstrap_servers))
        assert query(running.postgres_dsn, "select answer from probe") == 42


def test_start_straight_after_a_crash(place: Path) -> None:
    """A start that meets processes which a crash left waits until their leashes have ended them."""
    told: list[str] = []
    with other_process(place) as (process, _):
        process.kill()
        process.wait(10)
        with stack.up(place, cache=services.cache(), report=told.append) as running:
            assert "first" in consume(running.bootstrap_servers)
            assert [restarts(running, name) for name in ("kafka", "postgres")] == [0, 0]


def test_taken_port_is_named(home: Path) -> None:
    """A configured port that is taken stops the start before anything runs, with its number."""
    (port,) = ports.free(1)
    with services.socket_on(port), pytest.raises(ConfigurationError, match=f"port {port} for Kafka is taken"):
        start(home, kafka_port=port)
    assert list((home / "logs").iterdir()) == []


def test_no_network_at_the_first_start(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a network the very first start fails within its tries, says why, and leaves nothing running."""
    for name, value in NO_NETWORK.items():
        monkeypatch.setenv(name, value)
    before = family(os.getpid())
    with pytest.raises(DependencyDown, match="Once they are in EVERPOST_HOME"):
        start(home, cache=home / "empty")
    assert set(family(os.getpid())) <= set(before)


def test_full_disk_is_an_error(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A disk with too little room is an error before anything is written, with the two ways out."""
    monkeypatch.setattr(stack, "DISK", 10**18)
    with pytest.raises(ConfigurationError, match="make room, or set EVERPOST_HOME"):
        start(home)


def test_service_that_dies_at_start_is_quoted(home: Path) -> None:
    """A service that cannot run is given up after a few tries, and its log's end is in the error."""
    (home / "postgres").mkdir()
    (home / stack.SECRET).write_text("secret", encoding="utf-8")
    with pytest.raises(DependencyDown, match="postgres died again and again"):
        start(home)
