"""What is written down about a running stack."""

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from infra.embedded import state
from pipeline.model.errors import ConfigurationError
from tests.support import services


def example(*programs: state.Process) -> state.State:
    """A stack of this process with these programs."""
    return state.State(
        owner=state.me(),
        ready=True,
        kafka_ports=(1, 4, 5),
        controller_ports=(2, 6, 7),
        postgres_port=3,
        programs={str(each.pid): each for each in programs},
    )


def test_state_survives_its_file(tmp_path: Path) -> None:
    """What is written is what is read."""
    written = example(state.Process(pid=7, started=1.25))
    state.write(tmp_path, written)
    assert state.read(tmp_path) == written


def test_unreadable_state_is_no_state(tmp_path: Path) -> None:
    """A missing, torn or foreign file counts as nothing known, and stops no start."""
    assert state.read(tmp_path) is None
    for text in ("", "{", "[]", '{"owner": 1}', '{"programs": {}, "owner": {"pid": 1}}'):
        (tmp_path / state.FILE).write_text(text, encoding="utf-8")
        assert state.read(tmp_path) is None


def test_one_runs_a_home(tmp_path: Path) -> None:
    """While one holds the home nobody else gets it; once it lets go the next one does."""
    first = state.claim(tmp_path / "home")
    assert first is not None
    assert state.claim(tmp_path / "home") is None
    first.close()
    second = state.claim(tmp_path / "home")
    assert second is not None
    second.close()


def test_home_that_cannot_be_written(tmp_path: Path) -> None:
    """A home that cannot be written is named, with what to set instead."""
    (tmp_path / "file").touch()
    with pytest.raises(ConfigurationError, match=r"cannot be written .*: set EVERPOST_HOME"):
        state.claim(tmp_path / "file" / "home")


def test_process_is_told_from_its_successor() -> None:
    """A process with the number of one that ended is not taken for it."""
    assert state.me().alive()
    assert not replace(state.me(), started=state.me().started - 60).alive()


def test_left_over_is_what_runs() -> None:
    """Of a crashed stack's processes those that still run are left over, and can be ended."""
    child = subprocess.Popen([sys.executable, "-c", "import signal; signal.pause()"])
    found = state.process(child.pid)
    assert found is not None
    gone = replace(found, started=found.started - 60)
    assert state.left_over(example(found)) == [found]
    assert state.left_over(example(gone)) == []
    state.kill([gone])
    assert found.alive()
    state.kill([found])
    services.until(lambda: not found.alive())
    child.wait()
    assert state.process(child.pid) is None
