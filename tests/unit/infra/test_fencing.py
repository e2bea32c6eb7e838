"""When the old registration of a broker that was killed has ended."""

import sys
from pathlib import Path

import pytest

from infra.embedded import fencing
from infra.embedded.fencing import Registration

ACTIVE = b"[QuorumController id=1] Performing controller activation.\n"
REGISTERED = (
    b"Replayed initial RegisterBrokerRecord for broker 1: RegisterBrokerRecord(fenced=true, logDirs=[])\n"
)
CHANGED = b"Replayed BrokerRegistrationChangeRecord modifying the registration for broker 1: (fenced=%b, logDirs=[])\n"
UNFENCED, UNCHANGED, FENCED = CHANGED % b"-1", CHANGED % b"0", CHANGED % b"1"


@pytest.mark.parametrize(
    ("lines", "ended"),
    [
        ([REGISTERED, UNFENCED, ACTIVE, FENCED], True),
        ([REGISTERED, ACTIVE], True),
        ([REGISTERED, UNFENCED, FENCED, ACTIVE], True),
        ([REGISTERED, UNFENCED, ACTIVE], False),
        ([REGISTERED, FENCED, UNFENCED, UNCHANGED, ACTIVE], False),
        ([REGISTERED, FENCED], False),
        ([ACTIVE], False),
    ],
)
def test_ended_when_fenced_by_an_active_controller(lines: list[bytes], *, ended: bool) -> None:
    """What was replayed from the log counts only once the controller leads, and its last word is the valid one."""
    registration = Registration()
    heard = [registration.hear(line) for line in lines]
    assert heard[-1] is ended
    assert not any(heard[:-1])


def test_only_a_killed_broker_is_waited_for(tmp_path: Path) -> None:
    """A first start, and one after a stop in order, have no registration to wait for."""
    assert not fencing.killed(tmp_path)
    (tmp_path / "recovery-point-offset-checkpoint").touch()
    assert fencing.killed(tmp_path)
    (tmp_path / ".kafka_cleanshutdown").touch()
    assert not fencing.killed(tmp_path)


def test_controller_that_fails_is_quoted(capfd: pytest.CaptureFixture[str]) -> None:
    """One that ends by itself holds the broker up no longer, and what it said is in the log."""
    assert not fencing.fence([sys.executable, "-c", "print('no such listener')"])
    assert "no such listener" in capfd.readouterr().err


def test_controller_is_ended_when_it_has_done_its_work(tmp_path: Path) -> None:
    """The controller's process has ended before the broker opens the same data."""
    script = f"""
import pathlib, signal, sys, time
def end(*_):
    pathlib.Path({str(tmp_path)!r}, "ended").touch()
    sys.exit(0)
signal.signal(signal.SIGTERM, end)
sys.stdout.buffer.write({REGISTERED + ACTIVE!r})
sys.stdout.flush()
time.sleep(60)
"""
    assert fencing.fence([sys.executable, "-c", script])
    assert (tmp_path / "ended").exists()
