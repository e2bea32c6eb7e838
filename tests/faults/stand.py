"""What faults are injected into: a broker, a database, and routers that are started again when they die."""

import json
import os
import select
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Generator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import psutil
from confluent_kafka import ConsumerGroupState, KafkaException
from confluent_kafka.admin import AdminClient

from infra.embedded import backoff, stack
from infra.embedded.supervisor import Supervisor
from tests.faults.schedule import ROUTERS
from tests.support.services import cache, until

PARTITIONS = 4
GROUP = "everpost.route"
_BATCH = "100"  # events a transaction: small, so that a fault meets one
_LOOK = 0.01  # seconds between two looks at the processes
_END = 30.0  # seconds within which a process that is told to has ended


@dataclass(slots=True, kw_only=True)
class Router:
    """One router process."""

    instance: str
    process: "subprocess.Popen[bytes]"
    died_at: float | None = None  # of the monotonic clock

    def order(self, act: str, step: str, nth: int = 1, seconds: float = 0.0) -> None:
        """Tell it what to do when it reaches a step; see router_process.py."""
        assert self.process.stdin is not None
        self.process.stdin.write(f"{act} {step} {nth} {seconds}\n".encode())
        self.process.stdin.flush()

    def stalled(self) -> bool:
        """Whether it has said that it stalls as ordered."""
        assert self.process.stdout is not None
        return bool(select.select([self.process.stdout], [], [], 0)[0] and self.process.stdout.readline())

    def stopped(self) -> bool:
        """Whether SIGSTOP holds it."""
        return psutil.Process(self.process.pid).status() == psutil.STATUS_STOPPED

    def signal(self, number: signal.Signals) -> None:
        """Send it a signal."""
        self.process.send_signal(number)

    def ended(self) -> int:
        """Wait for its end; its exit code."""
        try:
            return self.process.wait(_END)
        finally:
            self.died_at = self.died_at or time.monotonic()

    def close(self) -> None:
        """End it, however it is."""
        self.process.kill()
        self.process.wait()
        for pipe in (self.process.stdin, self.process.stdout):
            if pipe is not None:
                pipe.close()


@dataclass(slots=True, kw_only=True)
class _Slot:
    """An instance whose process is kept alive."""

    home: Path  # what it keeps on its disk
    overrides: Mapping[str, object] = field(default_factory=dict[str, object])
    router: Router | None = None
    start_at: float = 0.0
    first_order: tuple[str, str] | None = None  # for the next process of the instance, once


class Routers:
    """The router processes, started again as the supervisor does after a first death. Thread-safe."""

    def __init__(self, environment: Mapping[str, str], home: Path) -> None:
        self.ends: Counter[int] = Counter()  # exit codes of all that have ended
        self._environment = environment
        self._home = home
        self._slots: dict[str, _Slot] = {}
        self._machines = Counter[str]()  # how often each instance has moved to another one
        self._all: list[Router] = []
        self._lock = threading.Lock()
        self._stop = threading.Event()
        self._keeper = threading.Thread(target=self._keep, name="keeper")
        self._keeper.start()

    def close(self) -> None:
        """End all."""
        self._stop.set()
        self._keeper.join()
        for router in self._all:
            router.close()

    def up(self, instance: str, overrides: Mapping[str, object] | None = None) -> None:
        """Start an instance and keep it running, its consumer's settings overlaid."""
        with self._lock:
            self._slots[instance] = _Slot(home=self.home(instance), overrides=overrides or {})

    def down(self, instance: str, number: signal.Signals = signal.SIGTERM) -> float:
        """End an instance by a signal, and keep it down; when it had ended."""
        router = self.get(instance)
        with self._lock:
            del self._slots[instance]
        router.signal(number)
        self._count(router)
        assert router.died_at is not None
        return router.died_at

    def get(self, instance: str) -> Router:
        """The process of an instance, once there is one."""
        found = until(lambda: self._slots[instance].router, _END, _LOOK)
        assert found is not None
        return found

    def killed(self, router: Router) -> float:
        """Wait until a process has killed itself, and for the one after it; when it had died."""
        until(lambda: router.died_at, _END, _LOOK)
        assert router.process.returncode == -signal.SIGKILL, f"it ended with {router.process.returncode}"
        assert router.died_at is not None
        return router.died_at

    def replace(self, instance: str) -> Router:
        """Start another process as an instance whose process goes on; that one, of which nobody takes care now.

        It starts as on another machine: with nothing on its disk.
        """
        with self._lock:
            self._machines[instance] += 1
            slot = self._slots[instance]
            old, slot.router = slot.router, None
            slot.home = self.home(instance)
        assert old is not None
        return old

    def order_next(self, instance: str, act: str, step: str) -> None:
        """An order for the process that comes after the one that runs."""
        with self._lock:
            self._slots[instance].first_order = (act, step)

    def home(self, instance: str) -> Path:
        """What an instance keeps on its disk."""
        return self._home / f"router-{instance}.{self._machines[instance]}"

    def _keep(self) -> None:
        while not self._stop.wait(_LOOK):
            with self._lock:
                for instance, slot in self._slots.items():
                    self._look_after(instance, slot)

    def _look_after(self, instance: str, slot: _Slot) -> None:
        now = time.monotonic()
        if slot.router is not None and slot.router.process.poll() is not None:
            self._count(slot.router)
            slot.router, slot.start_at = None, now + backoff.BASE
        if slot.router is None and now >= slot.start_at:
            slot.router = self._start(instance, slot)

    def _count(self, router: Router) -> None:
        self.ends[router.ended()] += 1

    def _start(self, instance: str, slot: _Slot) -> Router:
        slot.home.mkdir(exist_ok=True)
        with (self._home / f"router-{instance}.log").open("ab") as log:
            process = subprocess.Popen(
                [sys.executable, "-m", "tests.faults.router_process", json.dumps(slot.overrides)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                env=os.environ
                | self._environment
                | {"EVERPOST_INSTANCE": instance, "EVERPOST_HOME": str(slot.home)},
            )
        router = Router(instance=instance, process=process)
        self._all.append(router)
        if slot.first_order is not None:
            router.order(*slot.first_order)
            slot.first_order = None
        return router


@dataclass(frozen=True, slots=True, kw_only=True)
class Stand:
    """The parts, while they run."""

    servers: str
    dsn: str = field(repr=False)
    supervisor: Supervisor  # of the broker and the database
    routers: Routers

    def admin(self) -> AdminClient:
        """A new client: one that has seen a broker stop was seen to find nobody for 60 s."""
        return AdminClient({"bootstrap.servers": self.servers, "log_level": 0})

    def members(self) -> int | None:
        """How many routers are in the group; None while it rebalances, or cannot be asked."""
        admin = self.admin()  # has to outlive what it promised
        try:
            described = admin.describe_consumer_groups([GROUP], request_timeout=5)[GROUP].result(6)
        except (KafkaException, TimeoutError):
            return None
        return len(described.members) if described.state is ConsumerGroupState.STABLE else None

    def answers(self) -> bool:
        """Whether the broker answers."""
        try:
            return bool(self.admin().list_topics(timeout=0.5).brokers)
        except KafkaException:
            return False


@contextmanager
def stand(home: Path, prepare: Callable[[str, str], None]) -> Generator[Stand]:
    """Everything up, and the routers started once `prepare` (bootstrap servers, DSN) has made what they need."""
    home.chmod(0o711)  # PostgreSQL's own user must get in
    with stack.up(home / "stack", cache=cache(), report=lambda _line: None) as running:
        prepare(running.bootstrap_servers, running.postgres_dsn)
        environment = {
            "EVERPOST_BOOTSTRAP_SERVERS": running.bootstrap_servers,
            "EVERPOST_POSTGRES_DSN": running.postgres_dsn,
            "EVERPOST_BATCH": _BATCH,
        }
        routers = Routers(environment, home)
        try:
            for instance in ROUTERS:
                routers.up(instance)
            yield Stand(
                servers=running.bootstrap_servers,
                dsn=running.postgres_dsn,
                supervisor=running.supervisor,
                routers=routers,
            )
        finally:
            routers.close()


def put_back(disk: Path, kept: Path | None) -> None:
    """Leave on a disk what was kept of it, or nothing."""
    shutil.rmtree(disk)
    if kept is not None:
        shutil.copytree(kept, disk)
