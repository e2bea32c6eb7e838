"""A program for tests of the supervisor: `python stage.py NOTES NAME [stubborn] [brood]`.

It appends a line to the file NOTES when it starts (`NAME start PID`) and when it is asked to stop
(`NAME stop PID`). `stubborn` ignores the request; `brood` has a child of its own, noted as `NAME-child`.
"""

import os
import signal
import subprocess
import sys
from pathlib import Path


def main() -> None:
    """Note the start, then wait to be asked."""
    notes, name, *ways = sys.argv[1:]

    def note(who: str, what: str, pid: int) -> None:
        with Path(notes).open("a", encoding="utf-8") as file:
            file.write(f"{who} {what} {pid}\n")

    def asked(_number: int, _frame: object) -> None:
        note(name, "stop", os.getpid())
        if "stubborn" not in ways:
            sys.exit(0)

    signal.signal(signal.SIGTERM, asked)
    if "brood" in ways:
        child = subprocess.Popen([sys.executable, "-c", "import signal; signal.pause()"])
        note(f"{name}-child", "start", child.pid)
    note(name, "start", os.getpid())
    sys.stdout.write(f"{name} says hello\n")
    sys.stdout.flush()
    while True:
        signal.pause()


if __name__ == "__main__":
    main()
