"""What is known of the stack in a home: who runs it, where it listens, which processes it has.

`up.lock` is held by the process that runs the stack, and the kernel frees it with that process: it says
whether a stack runs. `state.json` says what runs; after a crash it tells what the crash may have left.
"""

import contextlib
import fcntl
import json
import os
import signal
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO, Any

import psutil

from pipeline.model.errors import ConfigurationError

FILE = "state.json"
LOCK = "up.lock"


@dataclass(frozen=True, slots=True, kw_only=True)
class Process:
    """A process that cannot be mistaken for a later one with its number."""

    pid: int
    started: float  # seconds since 1970, as the operating system tells it

    def alive(self) -> bool:
        """Whether it still runs: not ended, not a zombie, not another with the same number."""
        with contextlib.suppress(psutil.Error):
            found = psutil.Process(self.pid)
            return abs(found.create_time() - self.started) < 1 and found.status() != psutil.STATUS_ZOMBIE
        return False


@dataclass(frozen=True, slots=True, kw_only=True)
class State:
    """One stack, as last written by the process that runs it."""

    owner: Process
    ready: bool  # whether the services take work
    kafka_ports: tuple[int, ...]  # of each broker, in their order
    controller_ports: tuple[int, ...]
    postgres_port: int
    programs: Mapping[str, Process]  # by name: the services and the stages that run


def process(pid: int) -> Process | None:
    """The process with this number now, or None."""
    with contextlib.suppress(psutil.Error):
        return Process(pid=pid, started=psutil.Process(pid).create_time())
    return None


def me() -> Process:
    """This process."""
    return Process(pid=os.getpid(), started=psutil.Process().create_time())


def claim(home: Path) -> IO[str] | None:
    """Become the one that runs the home's stack until the file is closed; None when another is.

    Raises ConfigurationError when nothing can be written there.
    """
    try:
        if not home.exists():
            home.mkdir(parents=True)
            home.chmod(0o711)  # PostgreSQL's user goes through; data and logs are closed to others
        file = (home / LOCK).open("w")
    except OSError as error:
        raise ConfigurationError(
            f"{home} cannot be written ({error.strerror}): set EVERPOST_HOME to a directory of your own"
        ) from error
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        file.close()
        return None
    return file


def write(home: Path, state: State) -> None:
    """Replace what is known, so that a reader sees the old or the new and nothing between."""
    scratch = home / f".{FILE}"
    scratch.write_text(json.dumps(asdict(state), indent=1), encoding="utf-8")
    scratch.replace(home / FILE)


def read(home: Path) -> State | None:
    """What was last written; None when nothing was, or by another version."""
    try:
        return _state(json.loads((home / FILE).read_text(encoding="utf-8")))
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _state(fields: dict[str, Any]) -> State:
    programs = {name: Process(**each) for name, each in fields.pop("programs").items()}
    ports = {name: tuple(fields.pop(name)) for name in ("kafka_ports", "controller_ports")}
    return State(owner=Process(**fields.pop("owner")), programs=programs, **ports, **fields)


def left_over(state: State) -> list[Process]:
    """Processes of a stack that crashed which have not ended yet. Their leashes are ending them."""
    return [each for each in state.programs.values() if each.alive()]


def kill(processes: Iterable[Process]) -> None:
    """End what did not end by itself."""
    for each in processes:
        if each.alive():
            with contextlib.suppress(ProcessLookupError):
                os.kill(each.pid, signal.SIGKILL)
