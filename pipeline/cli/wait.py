"""Waiting for Ctrl-C or SIGTERM."""

import signal
import threading


def until_told() -> None:
    """Return when SIGINT or SIGTERM comes."""
    told = threading.Event()
    for signum in (signal.SIGINT, signal.SIGTERM):
        signal.signal(signum, lambda _number, _frame: told.set())
    told.wait()
