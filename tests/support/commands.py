"""The real `everpost` in processes of its own: the running pipeline, and the commands that people type beside it."""

import asyncio
import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import AsyncGenerator, Generator, Mapping
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

import psutil

from tests.support import services

EVERPOST = (sys.executable, "-m", "pipeline.cli.main")
FLIGHT = ("flight=UA 1018", "carrier=United", "origin=EWR", "destination=IAH", "scheduled=05:25")


@contextmanager
def up(home: Path, environment: Mapping[str, str] = os.environ) -> Generator["subprocess.Popen[str]"]:
    """The pipeline of a home, stopped by Ctrl-C."""
    (home / "cache").symlink_to(services.cache())
    process = subprocess.Popen(
        [*EVERPOST, "up"],
        env={**environment, "EVERPOST_HOME": str(home)},
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        yield process
    finally:
        children = psutil.Process(process.pid).children(recursive=True)
        process.send_signal(signal.SIGINT)
        try:
            process.communicate(timeout=60)
        finally:
            process.kill()
        _, alive = psutil.wait_procs(children, timeout=60)
        assert not alive


def ready(process: "subprocess.Popen[str]", home: Path) -> Mapping[str, str]:
    """The environment that the other commands need, once everything runs."""
    assert process.stdout is not None
    found: dict[str, str] = {"EVERPOST_HOME": str(home)}
    for line in process.stdout:
        if match := re.match(r"(EVERPOST_\w+)=(\S+)", line):
            found[match[1]] = match[2]
        if line.startswith("logs:"):
            return os.environ | found
    raise AssertionError("everpost up ended before it was ready")


@asynccontextmanager
async def stage(name: str, kafka: str, postgres: str) -> AsyncGenerator[None]:
    """A process of one stage, stopped by SIGTERM."""
    environment = {
        **os.environ,
        "EVERPOST_BOOTSTRAP_SERVERS": kafka,
        "EVERPOST_POSTGRES_DSN": postgres,
        "EVERPOST_INSTANCE": "test",
    }
    process = await asyncio.create_subprocess_exec(*EVERPOST, "run", name, env=environment)
    try:
        yield
        assert process.returncode is None, f"{name} ended by itself"
        process.terminate()
        assert await asyncio.wait_for(process.wait(), 60) == 0
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


def run(environment: Mapping[str, str], *arguments: str) -> "subprocess.CompletedProcess[str]":
    """One command, to its end."""
    return subprocess.run(
        [*EVERPOST, *arguments],
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def last(done: "subprocess.CompletedProcess[str]") -> Any:
    """The JSON on the last line."""
    return json.loads(done.stdout.splitlines()[-1])
