"""The demo as a newcomer runs it, and with processes killed under it."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil
import pytest

from pipeline.model.event import CHANNELS
from tests.support import services

pytestmark = [pytest.mark.acceptance, pytest.mark.integration]
EVERPOST = (sys.executable, "-m", "pipeline.cli.main")


@contextmanager
def demo(home: Path, *arguments: str) -> Generator["subprocess.Popen[str]"]:
    """A demo of the real command in a home of its own, killed at the end if it still runs."""
    (home / "cache").symlink_to(services.cache())
    process = subprocess.Popen(
        [*EVERPOST, "demo", "--exit", "--json", *arguments],
        env=os.environ | {"EVERPOST_HOME": str(home)},
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def finish(process: "subprocess.Popen[str]") -> dict[str, Any]:
    """The figures on the last line, and that the command says yes."""
    output, _ = process.communicate(timeout=400)
    figures: dict[str, Any] = json.loads(output.splitlines()[-1])
    assert process.returncode == 0, figures
    return figures


def test_a_day_of_flights_is_delivered_and_accounted_for(home: Path) -> None:
    """Every channel delivers, duplicates and opt-outs are counted, the ledger balances, nothing differs."""
    with demo(home, "--seconds", "10", "--per-flight", "1") as process:
        figures = finish(process)
    assert figures["accepted"] > 732  # one passenger a flight, and one in twenty twice
    assert figures["duplicates"] == figures["accepted"] - 732
    assert set(figures["delivered"]) == set(CHANNELS)
    assert figures["suppressed"] > 0 < figures["dead"]
    assert (figures["in_flight"], figures["balanced"], figures["sandbox_mismatches"]) == (0, True, 0)
    assert figures["repeats"] == 0


@pytest.mark.faults
@pytest.mark.parametrize(
    "victims",
    [
        ("route", "relay", *(f"send-{channel}" for channel in CHANNELS)),
        ("account", "retry", "postgres", "kafka"),
    ],
)
def test_killed_processes_cost_nothing(home: Path, victims: tuple[str, ...]) -> None:
    """`kill -9` of any of them in the middle of the day: the demo ends balanced all the same."""
    with demo(home, "--seconds", "15", "--per-flight", "1") as process:
        received = home / "demo" / "providers" / "received.jsonl"
        services.until(lambda: received.exists() and received.stat().st_size > 50_000, 240, 0.1)
        for name in victims:
            os.kill(program(home, name), signal.SIGKILL)
        figures = finish(process)
    assert set(victims) <= set(figures["restarts"])
    assert (figures["in_flight"], figures["balanced"], figures["sandbox_mismatches"]) == (0, True, 0)


def program(home: Path, name: str) -> int:
    """The process id of a stage, as the running stack wrote it down."""
    state = json.loads((home / "demo" / "state.json").read_text(encoding="utf-8"))
    return state["programs"][name]["pid"]


def test_an_interrupted_demo_leaves_no_process(home: Path) -> None:
    """Ctrl-C in the middle ends Kafka, Postgres, the providers and every stage."""
    with demo(home) as process:
        received = home / "demo" / "providers" / "received.jsonl"
        services.until(lambda: received.exists() and received.stat().st_size > 0, 240, 0.1)
        children = psutil.Process(process.pid).children(recursive=True)
        assert len(children) > 10
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=120)
        assert process.returncode == 130  # interrupted, not done
    _, alive = psutil.wait_procs(children, timeout=60)
    assert not alive


def test_a_bad_file_is_told_by_line_and_reason(tmp_path: Path) -> None:
    """A day that cannot be read says where and why, before anything starts."""
    day = tmp_path / "day.csv"
    header = "sched_dep_time,dep_time,dep_delay,carrier,flight,origin,dest"
    day.write_text(f"{header}\n517,520,3,UA,1018,EWR,IAH\n2577,,,UA,1019,EWR,IAH\n", encoding="utf-8")
    done = subprocess.run(
        [*EVERPOST, "demo", "--exit", "--flights", str(day)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 78
    assert f"{day}:3: sched_dep_time is '2577', not a time as HHMM" in done.stderr
