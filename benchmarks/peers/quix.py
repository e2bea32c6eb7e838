"""Quix Streams on the bare job: its environment, and how it is started."""

import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from benchmarks.peers import output
from pipeline.adapters.wire.ids import SCHEMAS

# Quix Streams holds confluent-kafka below the version that everpost needs, hence an environment of its own.
_PACKAGES = ("quixstreams==3.28.1", "fastavro>=1.13,<2")
_INSTALL = 300  # seconds
_JOB = Path(__file__).parent / "quix_streams" / "router.py"


@dataclass(frozen=True, slots=True, kw_only=True)
class Quix:
    """The job in its environment."""

    python: Path

    def start(
        self, servers: str, run: str, topic: str, workers: int, users: int, state: Path
    ) -> "list[subprocess.Popen[bytes]]":
        """Run the job in so many processes of the group `run`; its output topics are made first."""
        output.create(servers, run)
        inputs = (servers, run, topic, str(users), SCHEMAS / "event.avsc", output.SCHEMA)
        # It logs to where pytest or a terminal would mix it with ours; what matters is in the topics.
        return [
            subprocess.Popen(
                [self.python, _JOB, *inputs, state / str(number)],
                env=os.environ | {"Quix__Deployment__Id": f"{run}-{number}"},
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
            )
            for number in range(workers)
        ]


def installed(cache: Path) -> Quix:
    """The job, its environment made once. Raises CalledProcessError when it can't be."""
    home = cache / "quix-streams-3.28.1"
    python = home / "bin" / "python"
    if not (home / "complete").exists():
        subprocess.run([sys.executable, "-m", "venv", "--clear", home], check=True, timeout=_INSTALL)
        pip = [python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", *_PACKAGES]
        subprocess.run(pip, check=True, timeout=_INSTALL)
        (home / "complete").touch()
    return Quix(python=python)
