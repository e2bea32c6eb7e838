"""A stack in a process of its own, to be killed: `python up.py HOME CACHE`.

Prints one JSON object when the services take work, then waits to be interrupted.
"""

import contextlib
import json
import os
import signal
import sys
from pathlib import Path

from infra.embedded import stack


def main() -> None:
    """Run the stack of HOME, or find it."""
    home, cache = map(Path, sys.argv[1:])

    def report(line: str) -> None:
        sys.stderr.write(f"{line}\n")

    with contextlib.suppress(KeyboardInterrupt), stack.up(home, cache=cache, report=report) as running:
        if running.owned:
            running.supervisor.add("stage", [sys.executable, "-c", "import signal; signal.pause()"])
        facts = {
            "pid": os.getpid(),
            "owned": running.owned,
            "bootstrap_servers": running.bootstrap_servers,
            "postgres_dsn": running.postgres_dsn,
        }
        sys.stdout.write(json.dumps(facts) + "\n")
        sys.stdout.flush()
        while running.owned:
            signal.pause()


if __name__ == "__main__":
    main()
