"""Ctrl-C and SIGTERM: waiting for them, and leaving in order."""

import signal
import sys
import threading
from types import FrameType


def leave_on_sigterm() -> None:
    """Let SIGTERM unwind the stack as Ctrl-C does: stages are stopped before what they stand on."""

    def leave(_number: int, _frame: FrameType | None) -> None:
        sys.exit(128 + signal.SIGTERM)

    signal.signal(signal.SIGTERM, leave)


def until_told() -> None:
    """Return when SIGINT or SIGTERM comes."""
    told = threading.Event()
    for signum in (signal.SIGINT, signal.SIGTERM):
        signal.signal(signum, lambda _number, _frame: told.set())
    told.wait()
