"""Runs programs as processes of their own, starts them again when they die, stops them in order.

Each program hangs on a leash (`leash.py`) and is watched by one thread here. Ending a program is
closing its pipe, which is also what the kernel does when this process dies: one way down, whether by
`stop`, by Ctrl-C or by `kill -9`. Why this is not a package: pipeline/decisions/0002-own-supervisor.md.
"""

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from threading import Event, Lock, Thread
from types import TracebackType
from typing import IO, Self

from infra.embedded import backoff, leash
from pipeline.model.errors import ConfigurationError

LOG_SIZE = 10_000_000  # bytes: a log larger than this is put aside when its program starts
SLACK = 5.0  # seconds beyond a program's grace before its leash is killed too


@dataclass(frozen=True, slots=True, kw_only=True)
class Program:
    """What to run, and how to end it."""

    name: str
    argv: tuple[str, ...]
    env: Mapping[str, str] = field(default_factory=dict[str, str])  # added to this process's own
    user: int | None = None  # user and group to run as, when not this process's
    group: int | None = None
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


def _silent(_line: str) -> None:
    """Report to nobody."""


class _Runner:
    """One program: its thread, its leash, its counters."""

    def __init__(self, program: Program, log: Path, report: Callable[[str], None]) -> None:
        self.program = program
        self._log = log
        self._report = report
        self._stopping = Event()
        self._lock = Lock()
        self._pipe: IO[bytes] | None = None
        self._leash: subprocess.Popen[bytes] | None = None
        self._pid: int | None = None
        self._restarts = 0
        self._last_exit: int | None = None
        self._thread = Thread(target=self._run, name=f"supervise-{program.name}", daemon=True)

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
            if self._pipe is None or self._pid is None:
                return False
            self._pipe.write(bytes([number]))
            return True

    def request_stop(self) -> None:
        self._stopping.set()
        with self._lock:
            if self._pipe is not None:
                self._pipe.close()
                self._pipe = None

    def join(self) -> None:
        self._thread.join(self.program.grace + SLACK)
        if self._thread.is_alive() and self._leash is not None:
            self._leash.kill()  # and, on Linux, the child by it
            self._thread.join(SLACK)

    def _run(self) -> None:
        tries = backoff.Tries(started_at=time.monotonic())
        while not self._stopping.is_set():
            code = self._once()
            if self._stopping.is_set():
                return
            tries, delay = backoff.after_death(tries, time.monotonic(), random.random())  # noqa: S311, TID251  (jitter; the shell has the chance)
            self._report(f"{self.program.name} ended ({_meaning(code)}), starts again in {delay:.1f} s")
            self._stopping.wait(delay)
            with self._lock:
                self._restarts += 1

    def _once(self) -> int:
        """Run the program to its end; return its code."""
        leashed = self._spawn()
        if leashed.stdout is None:
            raise AssertionError
        code = -signal.SIGKILL  # if the leash was killed, it had no time to tell
        for line in leashed.stdout:
            word, number = line.split()
            if word == b"pid":
                with self._lock:
                    self._pid = int(number)
            else:
                code = int(number)
        leashed.stdout.close()
        leashed.wait()
        self._bury(code)
        return code

    def _spawn(self) -> subprocess.Popen[bytes]:
        program = self.program
        spec = {"argv": program.argv, "user": program.user, "group": program.group}
        spec |= {"stop": int(program.stop), "grace": program.grace}
        with self._lock, _open_log(self._log) as log:
            leashed = subprocess.Popen(
                [sys.executable, "-I", "-S", leash.__file__, json.dumps(spec)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                bufsize=0,
                env={**os.environ, **program.env},
                start_new_session=True,  # a Ctrl-C is for the supervisor
            )
            self._leash, self._pipe = leashed, leashed.stdin
            if self._stopping.is_set():  # stop came between the check and here
                self._pipe = None
                leashed.stdin and leashed.stdin.close()
        return leashed

    def _bury(self, code: int) -> None:
        with self._lock:
            if self._pipe is not None:
                self._pipe.close()
            self._pipe = self._pid = self._leash = None
            self._last_exit = code


def _open_log(path: Path) -> IO[bytes]:
    if path.exists() and path.stat().st_size > LOG_SIZE:
        path.replace(path.with_suffix(".log.1"))
    return path.open("ab")


def _meaning(code: int) -> str:
    return f"exit code {code}" if code >= 0 else f"killed by {signal.Signals(-code).name}"


class Supervisor:
    """The programs of one home. Thread-safe; a context manager that stops them all."""

    def __init__(self, logs: Path, report: Callable[[str], None] = _silent) -> None:
        """Logs go to `logs`/NAME.log; `report` is told in a line of every death."""
        self._logs = logs
        self._report = report
        self._runners: dict[str, _Runner] = {}
        logs.mkdir(parents=True, exist_ok=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def add(self, name: str, argv: Sequence[str], env: Mapping[str, str] | None = None) -> None:
        """Start a stage and keep it running."""
        self.run(Program(name=name, argv=tuple(argv), env=env or {}))

    def run(self, program: Program) -> None:
        """Start a program and keep it running. Raises ConfigurationError when the name is taken."""
        if program.name in self._runners:
            raise ConfigurationError(
                f"a program named {program.name} runs already; give this one another name"
            )
        runner = _Runner(program, self._logs / f"{program.name}.log", self._report)
        self._runners[program.name] = runner
        runner.start()

    def status(self) -> tuple[Status, ...]:
        """How each program is, in the order in which they were added."""
        return tuple(runner.status() for runner in self._runners.values())

    def kill(self, name: str, number: signal.Signals = signal.SIGKILL) -> bool:
        """Send a signal to a program, as a fault; False while it does not run. It is started again."""
        return self._runners[name].kill(number)

    def log(self, name: str) -> Path:
        """Where a program's output goes."""
        return self._logs / f"{name}.log"

    def stop(self) -> None:
        """End all: the stages together, and when they are gone the services that they need."""
        for service in (False, True):
            group = [each for each in self._runners.values() if each.program.service is service]
            for runner in group:
                runner.request_stop()
            for runner in group:
                runner.join()
        self._runners.clear()
