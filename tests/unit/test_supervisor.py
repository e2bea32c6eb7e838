"""The supervisor on real processes: what dies comes back, what is ended is gone."""

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Generator
from pathlib import Path

import psutil
import pytest

from infra.embedded.supervisor import Program, Status, Supervisor, meaning
from pipeline.model.errors import ConfigurationError
from tests.support import services

SUPPORT = Path(services.__file__).parent


class Notes:
    """What the programs of a test wrote down: lines of (name, start or stop, pid)."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def lines(self) -> list[tuple[str, str, int]]:
        """All notes so far."""
        text = self.path.read_text(encoding="utf-8") if self.path.exists() else ""
        return [(name, what, int(pid)) for name, what, pid in map(str.split, text.splitlines())]

    def pids(self, name: str) -> list[int]:
        """The processes that a program has been."""
        return [pid for who, what, pid in self.lines() if who == name and what == "start"]

    def program(self, name: str, *ways: str, grace: float = 5.0, service: bool = False) -> Program:
        """A program that writes such notes."""
        argv = (sys.executable, str(SUPPORT / "stage.py"), str(self.path), name, *ways)
        return Program(name=name, argv=argv, grace=grace, service=service)


@pytest.fixture
def notes(tmp_path: Path) -> Notes:
    """The notes of this test."""
    return Notes(tmp_path / "notes")


@pytest.fixture
def supervisor(tmp_path: Path) -> Generator[Supervisor]:
    """A supervisor without programs, which ends those that the test gives it."""
    with Supervisor(tmp_path / "logs") as supervisor:
        yield supervisor


def only(supervisor: Supervisor) -> Status:
    """The status of the one program."""
    (status,) = supervisor.status()
    return status


def running(pid: int) -> bool:
    """Whether the process is there and no zombie."""
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def test_what_dies_comes_back(supervisor: Supervisor, notes: Notes) -> None:
    """A program killed by name runs again as another process, and its status counts it."""
    supervisor.run(notes.program("router"))
    (first,) = services.until(lambda: notes.pids("router"))
    assert supervisor.kill("router")
    services.until(lambda: len(notes.pids("router")) == 2)
    services.until(lambda: only(supervisor).pid == notes.pids("router")[1])
    assert only(supervisor) == Status(
        name="router", pid=notes.pids("router")[1], restarts=1, last_exit=-signal.SIGKILL, service=False
    )
    assert not running(first)


def test_death_is_reported(tmp_path: Path, notes: Notes) -> None:
    """A death is told in a line with its cause and the wait, and each start and end is announced."""
    told: list[str] = []
    changes: list[None] = []
    with Supervisor(tmp_path / "logs", told.append, lambda: changes.append(None)) as supervisor:
        supervisor.run(notes.program("router"))
        services.until(lambda: notes.pids("router"))
        supervisor.kill("router", signal.SIGTERM)
        services.until(lambda: told)
    assert told[0].startswith("router ended (exit code 0); it starts again in 0.")
    assert len(changes) >= 2


def test_stages_end_before_services(supervisor: Supervisor, notes: Notes) -> None:
    """Stages are asked to stop and are gone before the services that they need are asked."""
    supervisor.run(notes.program("broker", service=True))
    supervisor.run(notes.program("stage-b"))
    supervisor.run(notes.program("stage-a"))
    services.until(lambda: len(notes.lines()) == 3)
    supervisor.stop()
    stopped = [name for name, what, _ in notes.lines() if what == "stop"]
    assert sorted(stopped[:2]) == ["stage-a", "stage-b"]
    assert stopped[2:] == ["broker"]
    assert not any(running(pid) for _, _, pid in notes.lines())


def test_stubborn_program_is_killed(supervisor: Supervisor, notes: Notes) -> None:
    """A program that ignores the request to stop is killed after its grace, and its children with it."""
    supervisor.run(notes.program("router", "stubborn", "brood", grace=0.2))
    services.until(lambda: notes.pids("router"))
    supervisor.stop()
    assert [what for name, what, _ in notes.lines() if name == "router"] == ["start", "stop"]
    services.until(lambda: not any(running(pid) for _, _, pid in notes.lines()))


def test_stop_during_back_off(supervisor: Supervisor, notes: Notes) -> None:
    """A program that waits for its next start when all is stopped does not start again."""
    supervisor.run(Program(name="broken", argv=("/bin/false",)))
    services.until(lambda: only(supervisor).last_exit == 1)
    supervisor.stop()
    assert only(supervisor).pid is None
    assert "keep-broken" not in {thread.name for thread in threading.enumerate()}


def test_program_that_cannot_start(supervisor: Supervisor) -> None:
    """A program that is not there is tried again as one that died, and its log says why."""
    supervisor.run(Program(name="ghost", argv=("/nowhere/ghost",)))
    services.until(lambda: only(supervisor).last_exit == 127)
    assert "cannot start /nowhere/ghost" in supervisor.log("ghost").read_text(encoding="utf-8")


def test_output_is_logged_and_a_large_log_put_aside(supervisor: Supervisor, notes: Notes) -> None:
    """A program's output goes to its log; a log above the limit is kept as .log.1 at the next start."""
    log = supervisor.log("router")
    log.write_bytes(b"old\n" * 3_000_000)
    supervisor.run(notes.program("router"))
    services.until(lambda: log.exists() and log.read_text(encoding="utf-8") == "router says hello\n")
    assert log.with_suffix(".log.1").stat().st_size == 12_000_000


def test_environment_is_added(supervisor: Supervisor) -> None:
    """A stage gets this process's environment and what was given for it."""
    supervisor.add("stage", ["/bin/sh", "-c", 'echo "$GREETING $PATH"; sleep 60'], {"GREETING": "hello"})
    log = supervisor.log("stage")
    services.until(
        lambda: log.exists() and log.read_text(encoding="utf-8") == f"hello {os.environ['PATH']}\n"
    )


def test_names_are_unique(supervisor: Supervisor, notes: Notes) -> None:
    """A second program of the same name is refused, and so is a signal to an unknown one."""
    supervisor.run(notes.program("router"))
    with pytest.raises(ConfigurationError, match="runs already"):
        supervisor.run(notes.program("router"))
    with pytest.raises(ConfigurationError, match="there are: router"):
        supervisor.kill("ruoter")


def test_nothing_starts_after_stop(supervisor: Supervisor, notes: Notes) -> None:
    """What is added once all is being stopped is refused, so that nothing is left over."""
    supervisor.stop()
    with pytest.raises(ConfigurationError, match="being stopped"):
        supervisor.run(notes.program("late"))


def test_leash_killed(supervisor: Supervisor, notes: Notes) -> None:
    """A program whose leash is killed ends at once and comes back."""
    supervisor.run(notes.program("router"))
    (first,) = services.until(lambda: notes.pids("router"))
    leash = services.until(lambda: psutil.Process(first).ppid())
    os.kill(leash, signal.SIGKILL)
    services.until(lambda: len(notes.pids("router")) == 2)
    assert not running(first)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGKILL])
def test_supervisor_dies(tmp_path: Path, notes: Notes, number: signal.Signals) -> None:
    """However the supervisor ends, `kill -9` included, none of its processes is left, and each was asked first."""
    process = subprocess.Popen([sys.executable, str(SUPPORT / "supervise.py"), str(tmp_path)])
    try:
        services.until(lambda: len(notes.lines()) == 3)
        leashes = [psutil.Process(pid).ppid() for pid in notes.pids("service") + notes.pids("stage")]
        process.send_signal(number)
        process.wait(10)
    finally:
        process.kill()
    everyone = leashes + [pid for _, _, pid in notes.lines()]
    services.until(lambda: not any(running(pid) for pid in everyone), deadline=10)
    assert {name for name, what, _ in notes.lines() if what == "stop"} == {"service", "stage"}


def test_meaning_of_codes() -> None:
    """A return code reads as a person says it."""
    assert meaning(3) == "exit code 3"
    assert meaning(-9) == "killed by SIGKILL"
