"""`up`: Kafka and PostgreSQL of one home, started together, found by who comes second, gone afterwards.

    with stack.up(home, report=print) as running:
        running.supervisor.add("router", [sys.executable, "-m", "pipeline.cli", "run", "route"], env)
        ...

Layout of a home: cache/ (files fetched once), kafka/ (kafka-1/ to kafka-3/ of three brokers) and postgres/
(data), postgres.secret, logs/, state.json and up.lock (see state.py).
"""

import os
import shutil
import time
from collections.abc import Callable, Generator
from concurrent.futures import FIRST_EXCEPTION, Future, ThreadPoolExecutor, wait
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from threading import Event, Lock
from typing import IO, Protocol

from infra.embedded import jars, kafka, ports, postgres, state
from infra.embedded.console import Console
from infra.embedded.supervisor import Program, Supervisor, meaning
from pipeline.model.errors import ConfigurationError, DependencyDown

DISK = (
    1_000_000_000  # bytes that must be free: 45 MB of jars, 60 MB of Postgres, segments of 64 MB a partition
)
SECRET = "postgres.secret"  # noqa: S105  (a file's name)
START = 60.0  # seconds for a service to take work; a broker that reads 2 GB again after kill -9 takes 18
FIRST_START = 180.0  # seconds for another process's first start, with its downloads
LEFT_OVER = 35.0  # seconds for what a crash left: a broker's grace is 30
PAUSE = 0.05  # seconds between two looks
GIVE_UP = 3  # deaths while starting after which the log says more than another try
TAIL = 12  # lines of a log in an error


@dataclass(frozen=True, slots=True, kw_only=True)
class Stack:
    """Services that run."""

    home: Path
    bootstrap_servers: str  # Kafka, as host:port, of three brokers separated by commas
    postgres_dsn: str  # with password
    own: Supervisor | None  # None when another process runs the stack

    @property
    def owned(self) -> bool:
        """Whether this process started the services and will stop them."""
        return self.own is not None

    @property
    def supervisor(self) -> Supervisor:
        """Who runs the programs. Raises ConfigurationError when that is another process."""
        if self.own is None:
            raise ConfigurationError(
                f"the stack in {self.home} belongs to another process: end that one (Ctrl-C) first, "
                "or set EVERPOST_HOME to another directory"
            )
        return self.own

    @property
    def programs(self) -> dict[str, int]:
        """Process ids by program, whoever runs the stack."""
        known = state.read(self.home)
        return {} if known is None else {name: each.pid for name, each in known.programs.items()}


@contextmanager
def up(
    home: Path,
    *,
    kafka_port: int | None = None,
    postgres_port: int | None = None,
    brokers: int = 1,
    cache: Path | None = None,
    report: Callable[[str], None],
    progress: jars.Progress | None = None,
) -> Generator[Stack]:
    """Run the services while the block runs, or find those that another process runs in this home.

    Ports that are not given are those of the last time, or free ones; `kafka_port` is the first broker's.
    `brokers` is 1 or 3, and a home keeps to what it began with. `cache` (default: the home's own) may be
    shared by homes. `report` is told in lines what happens, `progress` how a fetch goes (default: a bar on
    standard error at a terminal, lines elsewhere).
    Raises ConfigurationError (disk, port, user, package) or DependencyDown (fetch or start failed).
    """
    home = home.expanduser().resolve()
    found = _claim_or_find(home)
    if isinstance(found, Stack):
        report(f"a stack runs in {home} already: Kafka at {found.bootstrap_servers}; using that one")
        yield found
        return
    with found:
        _check_brokers(home, brokers)
        _check_disk(home)
        _clean_up(home, report)
        with Console() as console:
            fetched = cache or home / "cache"
            starter = _Starter(home, fetched, brokers, report, progress or console.progress)
            try:
                with starter.supervisor:
                    yield starter.start(kafka_port, postgres_port)
            finally:
                starter.closed()


def find(home: Path) -> Stack | None:
    """The stack that another process runs in this home, or None."""
    known = state.read(home)
    if known is None or not known.ready or not known.owner.alive():
        return None
    return _stack(home, known, None)


def _claim_or_find(home: Path) -> IO[str] | Stack:
    """The right to run the home's stack, or the stack of who has it, once that is ready."""
    deadline = time.monotonic() + FIRST_START
    while (claim := state.claim(home)) is None:
        if (found := find(home)) is not None:
            return found
        if time.monotonic() > deadline:
            raise DependencyDown(
                f"another process has been starting or stopping the stack in {home} for {FIRST_START:.0f} s: "
                f"look into {home / 'logs'}, or end it"
            )
        time.sleep(PAUSE)
    return claim


def _stack(home: Path, known: state.State, own: Supervisor | None) -> Stack:
    return Stack(
        home=home,
        bootstrap_servers=",".join(f"{ports.HOST}:{port}" for port in known.kafka_ports),
        postgres_dsn=postgres.dsn(home / SECRET, known.postgres_port),
        own=own,
    )


def _check_brokers(home: Path, brokers: int) -> None:
    if brokers not in (1, 3):
        raise ConfigurationError(f"{brokers} brokers: choose 1, or 3 of which one may be killed")
    other = "kafka" if brokers == 3 else "kafka-1"
    if (home / other).exists():
        raise ConfigurationError(
            f"{home} began with {1 if other == 'kafka' else 3} broker(s), and its data lies there: "
            f"start it with as many, or set EVERPOST_HOME to another directory"
        )


def _check_disk(home: Path) -> None:
    free = shutil.disk_usage(home).free
    if free < DISK:
        raise ConfigurationError(
            f"{home} has {free / 1e6:.0f} MB free, and the embedded services need {DISK / 1e6:.0f} MB: "
            "make room, or set EVERPOST_HOME to a directory on another disk"
        )


def _clean_up(home: Path, report: Callable[[str], None]) -> None:
    """After a crash: wait for what its leashes are ending, then end the rest."""
    known = state.read(home)
    if known is None:
        return
    deadline = time.monotonic() + LEFT_OVER
    if left := state.left_over(known):
        report(f"waiting for {len(left)} processes that a crash left in {home}")
    while (left := state.left_over(known)) and time.monotonic() < deadline:
        time.sleep(PAUSE)
    state.kill(left)


class _Server(Protocol):
    """What Kafka and PostgreSQL have in common here."""

    def prepare(self) -> None: ...
    def program(self) -> Program: ...
    def ready(self, timeout: float) -> bool: ...


class _Starter:
    """One start: both services at once, each from its files to its first answer."""

    def __init__(
        self, home: Path, cache: Path, brokers: int, report: Callable[[str], None], progress: jars.Progress
    ) -> None:
        self._brokers = brokers
        self.supervisor = Supervisor(home / "logs", report, self._save)
        self._home = home
        self._cache = cache
        self._progress = progress
        self._cancelled = Event()
        self._known: state.State | None = None
        self._lock = Lock()

    def start(self, kafka_port: int | None, postgres_port: int | None) -> Stack:
        """Start both; return when both take work."""
        self._known = known = self._first_state(kafka_port, postgres_port)
        self._save()
        with ThreadPoolExecutor(2 + self._brokers) as pool:
            jobs: list[Future[None]] = [
                pool.submit(self._kafka, known, pool),
                pool.submit(self._postgres, known),
            ]
            try:
                for job in wait(jobs, return_when=FIRST_EXCEPTION).done:
                    job.result()
            except BaseException:
                self._cancelled.set()  # the other one need not go on
                raise
        with self._lock:
            self._known = replace(known, ready=True)
        self._save()
        return _stack(self._home, known, self.supervisor)

    def closed(self) -> None:
        """Write down that nothing runs; the ports are kept for the next time."""
        with self._lock:
            if self._known is not None:
                state.write(self._home, replace(self._known, ready=False, programs={}))

    def _first_state(self, kafka_port: int | None, postgres_port: int | None) -> state.State:
        last = state.read(self._home)
        free, *others = ports.free(1 + 2 * self._brokers)
        root = os.geteuid() == 0  # PostgreSQL does not run as root then either

        def choose(service: str, asked: int | None, before: tuple[int, ...] | None) -> tuple[int, ...]:
            wanted = (asked, *[None] * (self._brokers - 1))
            earlier = before if before and len(before) == self._brokers else (None,) * self._brokers
            return tuple(
                ports.choose(service, want, past, others.pop(), root=root)
                for want, past in zip(wanted, earlier, strict=True)
            )

        return state.State(
            owner=state.me(),
            ready=False,
            kafka_ports=choose("Kafka", kafka_port, last and last.kafka_ports),
            controller_ports=choose("Kafka's controller", None, last and last.controller_ports),
            postgres_port=ports.choose(
                "PostgreSQL", postgres_port, last and last.postgres_port, free, root=False
            ),
            programs={},
        )

    def _save(self) -> None:
        """Write down what runs now. Called by the supervisor whenever that changes."""
        with self._lock:
            if self._known is None:
                return
            running = {each.name: state.process(each.pid) for each in self.supervisor.status() if each.pid}
            programs = {name: process for name, process in running.items() if process is not None}
            self._known = replace(self._known, programs=programs)
            state.write(self._home, self._known)

    def _kafka(self, known: state.State, pool: ThreadPoolExecutor) -> None:
        """Every broker at once: of three, none takes work before another is there to vote."""
        files = jars.fetch(kafka.bundle(), self._cache, self._watched)
        voters = known.controller_ports if self._brokers > 1 else ()
        servers = [
            kafka.Kafka(
                files=files,
                directory=self._home / (f"kafka-{node}" if voters else "kafka"),
                logs=self._home / "logs",
                port=port,
                controller_port=controller_port,
                node=node,
                voters=voters,
            )
            for node, (port, controller_port) in enumerate(
                zip(known.kafka_ports, known.controller_ports, strict=True), 1
            )
        ]
        for job in [pool.submit(self._bring_up, server) for server in servers]:
            job.result()

    def _postgres(self, known: state.State) -> None:
        user = postgres.owner()
        server = postgres.Postgres(
            files=postgres.binaries(self._cache, user),
            directory=self._home / "postgres",
            secret=self._home / SECRET,
            port=known.postgres_port,
            user=user,
        )
        self._bring_up(server)

    def _watched(self, label: str, done: int, total: int) -> None:
        self._check_cancelled()
        self._progress(label, done, total)

    def _check_cancelled(self) -> None:
        if self._cancelled.is_set():
            raise DependencyDown("the start was given up")

    def _bring_up(self, server: _Server) -> None:
        server.prepare()
        self._check_cancelled()
        program = server.program()
        self.supervisor.run(program)
        deadline = time.monotonic() + START
        while not server.ready(timeout=1):
            self._check_cancelled()
            self._check_alive(program.name, deadline)
            time.sleep(PAUSE)

    def _check_alive(self, name: str, deadline: float) -> None:
        """Raise DependencyDown, with the end of the log, once waiting for the service makes no sense."""
        status = next(each for each in self.supervisor.status() if each.name == name)
        if status.restarts < GIVE_UP and time.monotonic() < deadline:
            return
        log = self.supervisor.log(name)
        last = "\n".join(log.read_text(encoding="utf-8", errors="replace").splitlines()[-TAIL:])
        how = f"died again and again ({meaning(status.last_exit)})" if status.last_exit else "does not answer"
        raise DependencyDown(f"{name} {how}; the end of {log}:\n{last}")
