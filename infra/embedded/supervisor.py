"""Runs programs as processes of their own, starts them again when they die, stops them in order.

Each program hangs on a leash (`leash.py`) and is watched by one thread here. Ending a program is
closing its pipe, which is also what the kernel does when this process dies: one way down, whether by
`stop`, by Ctrl-C or by `kill -9`. Why this is not a package: pipeline/decisions/0002-own-supervisor.md.
"""

import contextlib
import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from threading import Event, Lock, Thread
from types import TracebackType
from typing import IO, Self

from infra.embedded import backoff, leash
from infra.embedded.packages import User
from pipeline.model.errors import ConfigurationError

LOG_SIZE = 10_000_000  # bytes: a log larger than this is put aside when its program starts
SLACK = 5.0  # seconds beyond a program's grace before its leash is killed too


@dataclass(frozen=True, slots=True, kw_only=True)
class Program:
    """What to run, and how to end it."""

    name: str
    argv: tuple[str, ...]
    env: Mapping[str, str] = field(default_factory=dict[str, str])  # added to this process's own
    user: User | None = None  # whom to run as, when not this process's user
    stop: signal.Signals = signal.SIGTERM
    grace: float = 10.0  # seconds between `stop` and SIGKILL
    service: bool = False  # what stages need: stopped after them


@dataclass(frozen=True, slots=True, kw_only=True)
class Status:
    """How a program is."""

    name: str
    pid: int | None  # None while it does not run
    restarts: int
    last_exit: int | None  # return code of the last run, negative for a signal
    service: bool


def _nobody(*_: object) -> None:
    """Tell nobody."""


class Supervisor:
    """The programs of one home. Thread-safe; a context manager that stops them all."""

    def __init__(
        self,
        logs: Path,
        report: Callable[[str], None] = _nobody,
        changed: Callable[[], None] = _nobody,
    ) -> None:
        """Logs go to `logs`/NAME.log; `report` gets a line at every death, `changed` a call at every start and end."""
        self._logs = logs
        self._report = report
        self._changed = changed
        self._runners: dict[str, _Runner] = {}
        self._stopped = False
        self._lock = Lock()
        logs.mkdir(mode=0o700, parents=True, exist_ok=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def add(self, name: str, argv: Sequence[str], env: Mapping[str, str] | None = None) -> None:
        """Start a stage and keep it running. Raises ConfigurationError as `run`."""
        self.run(Program(name=name, argv=tuple(argv), env=env or {}))

    def run(self, program: Program) -> None:
        """Start a program and keep it running.

        Raises ConfigurationError when its name is taken, or all is being stopped.
        """
        with self._lock:
            if self._stopped:
                raise ConfigurationError(f"{program.name} is not started: everything is being stopped")
            if program.name in self._runners:
                raise ConfigurationError(f"a program named {program.name} runs already: choose another name")
            runner = _Runner(program, self.log(program.name), self._report, self._changed)
            self._runners[program.name] = runner
        runner.start()

    def status(self) -> tuple[Status, ...]:
        """How each program is, in the order in which they were added."""
        with self._lock:
            runners = tuple(self._runners.values())
        return tuple(runner.status() for runner in runners)

    def kill(self, name: str, number: signal.Signals = signal.SIGKILL) -> bool:
        """Send a signal to a program, as a fault; False while it does not run. If it dies, it is started again.

        Raises ConfigurationError when there is no such program.
        """
        with self._lock:
            runner = self._runners.get(name)
        if runner is None:
            raise ConfigurationError(f"no program is named {name}; there are: {', '.join(self._runners)}")
        return runner.kill(number)

    def log(self, name: str) -> Path:
        """Where a program's output goes."""
        return self._logs / f"{name}.log"

    def stop(self) -> None:
        """End all: the stages together, and when they are gone the services that they need."""
        with self._lock:
            self._stopped = True
        self._end(service=False)
        self._end(service=True)

    def stop_stages(self) -> None:
        """End the stages for good, together; the services that they need run on."""
        self._end(service=False)

    def _end(self, *, service: bool) -> None:
        with self._lock:
            group = [each for each in self._runners.values() if each.program.service is service]
        for runner in group:
            runner.request_stop()
        for runner in group:
            runner.join()


class _Runner:
    """One program: its thread, its leash, its counters."""

    def __init__(
        self, program: Program, log: Path, report: Callable[[str], None], changed: Callable[[], None]
    ) -> None:
        self.program = program
        self._log = log
        self._report = report
        self._changed = changed
        self._stopping = Event()
        self._lock = Lock()  # guards what follows; never held while something is waited for
        self._leash: subprocess.Popen[bytes] | None = None
        self._pid: int | None = None
        self._restarts = 0
        self._last_exit: int | None = None
        self._thread = Thread(target=self._keep, name=f"keep-{program.name}", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def status(self) -> Status:
        with self._lock:
            return Status(
                name=self.program.name,
                pid=self._pid,
                restarts=self._restarts,
                last_exit=self._last_exit,
                service=self.program.service,
            )

    def kill(self, number: int) -> bool:
        with self._lock:
            if self._pid is None or self._leash is None:
                return False
            try:
                os.write(_in(self._leash).fileno(), bytes([number]))
            except BrokenPipeError:  # it ended this very moment
                return False
            return True

    def request_stop(self) -> None:
        self._stopping.set()
        with self._lock:
            if self._leash is not None:
                _in(self._leash).close()

    def join(self) -> None:
        self._thread.join(self.program.grace + SLACK)
        with self._lock:
            if self._leash is not None:
                self._leash.kill()
        self._thread.join(SLACK)

    def _keep(self) -> None:
        tries = backoff.Tries(started_at=time.monotonic())
        while (leashed := self._spawn()) is not None:
            code = self._attend(leashed)
            if self._stopping.is_set():
                return
            chance = random.random()  # noqa: S311, TID251  (jitter, in the shell)
            tries, delay = backoff.after_death(tries, time.monotonic(), chance)
            self._report(f"{self.program.name} ended ({meaning(code)}); it starts again in {delay:.1f} s")
            self._stopping.wait(delay)
            with self._lock:
                self._restarts += 1

    def _spawn(self) -> subprocess.Popen[bytes] | None:
        """A leash that starts the program, or None when it shall not run any more."""
        program = self.program
        user = asdict(program.user) if program.user else {"uid": None, "gid": None}
        spec = {"argv": program.argv, **user, "stop": program.stop, "grace": program.grace}
        with self._lock, _open_log(self._log) as log:
            if self._stopping.is_set():
                return None
            self._leash = subprocess.Popen(
                [sys.executable, "-I", "-S", leash.__file__, json.dumps(spec)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                bufsize=0,
                env={**os.environ, **program.env},
                start_new_session=True,  # a Ctrl-C is for the supervisor
            )
            return self._leash

    def _attend(self, leashed: subprocess.Popen[bytes]) -> int:
        """Listen to the leash until the program has ended; return the program's code."""
        code = -int(signal.SIGKILL)  # what Linux does to the program when its leash is killed
        told = False
        for line in _out(leashed):
            word, number = line.split()
            if word == b"pid":
                self._note(int(number))
            else:
                code, told = int(number), True
        if not told and self._pid is not None:
            with contextlib.suppress(ProcessLookupError):  # elsewhere than on Linux, this does it
                os.killpg(self._pid, signal.SIGKILL)
        with self._lock, leashed:  # closes its pipes and waits for it
            self._leash = self._pid = None
            self._last_exit = code
        self._changed()
        return code

    def _note(self, pid: int) -> None:
        with self._lock:
            self._pid = pid
        self._changed()


def _in(leashed: subprocess.Popen[bytes]) -> IO[bytes]:
    assert leashed.stdin is not None  # opened as a pipe above
    return leashed.stdin


def _out(leashed: subprocess.Popen[bytes]) -> IO[bytes]:
    assert leashed.stdout is not None
    return leashed.stdout


def _open_log(path: Path) -> IO[bytes]:
    if path.exists() and path.stat().st_size > LOG_SIZE:
        path.replace(path.with_suffix(".log.1"))
    return path.open("ab")


def meaning(code: int) -> str:
    """A return code in words."""
    return f"exit code {code}" if code >= 0 else f"killed by {signal.Signals(-code).name}"
