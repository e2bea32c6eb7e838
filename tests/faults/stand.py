"""What faults are injected into: a broker, a database, and routers that are started again when they die."""

import shutil
from collections.abc import Callable, Generator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from confluent_kafka import ConsumerGroupState, KafkaException
from confluent_kafka.admin import AdminClient

from infra.embedded import stack
from infra.embedded.supervisor import Supervisor
from tests.faults.schedule import ROUTERS
from tests.faults.workers import Workers
from tests.support.services import cache

PARTITIONS = 4
GROUP = "everpost.route"
_BATCH = "100"  # events a transaction: small, so that a fault meets one


@dataclass(frozen=True, kw_only=True)
class Ground:
    """A broker and a database."""

    servers: str
    dsn: str = field(repr=False)
    supervisor: Supervisor

    @property
    def environment(self) -> dict[str, str]:
        """By which a stage finds them."""
        return {"EVERPOST_BOOTSTRAP_SERVERS": self.servers, "EVERPOST_POSTGRES_DSN": self.dsn}

    def admin(self) -> AdminClient:
        """A new client: one that has seen a broker stop was seen to find nobody for 60 s."""
        return AdminClient({"bootstrap.servers": self.servers, "log_level": 0})

    def members(self, group: str = GROUP) -> int | None:
        """How many processes are in the group; None while it rebalances, or cannot be asked."""
        admin = self.admin()  # has to outlive what it promised
        try:
            described = admin.describe_consumer_groups([group], request_timeout=5)[group].result(6)
        except (KafkaException, TimeoutError):
            return None
        return len(described.members) if described.state is ConsumerGroupState.STABLE else None

    def answers(self) -> bool:
        """Whether the broker answers."""
        try:
            return bool(self.admin().list_topics(timeout=0.5).brokers)
        except KafkaException:
            return False


@dataclass(frozen=True, kw_only=True)
class Stand(Ground):
    """The parts, while they run."""

    routers: Workers


@contextmanager
def ground(home: Path) -> Generator[Ground]:
    """The broker and the database of a home."""
    home.chmod(0o711)  # PostgreSQL's own user must get in
    with stack.up(home / "stack", cache=cache(), report=lambda _line: None) as running:
        yield Ground(
            servers=running.bootstrap_servers, dsn=running.postgres_dsn, supervisor=running.supervisor
        )


@contextmanager
def stand(home: Path, prepare: Callable[[str, str], None]) -> Generator[Stand]:
    """Everything up, and the routers started once `prepare` (bootstrap servers, DSN) has made what they need."""
    with ground(home) as under:
        prepare(under.servers, under.dsn)
        environment = {**under.environment, "EVERPOST_BATCH": _BATCH}
        routers = Workers("tests.faults.router_process", "router", environment, home)
        try:
            for instance in ROUTERS:
                routers.up(instance)
            yield Stand(servers=under.servers, dsn=under.dsn, supervisor=under.supervisor, routers=routers)
        finally:
            routers.close()


def put_back(disk: Path, kept: Path | None) -> None:
    """Leave on a disk what was kept of it, or nothing."""
    shutil.rmtree(disk)
    if kept is not None:
        shutil.copytree(kept, disk)
