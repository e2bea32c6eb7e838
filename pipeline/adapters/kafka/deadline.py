"""Limits that hold even where a client library does not keep its own.

librdkafka's `send_offsets_to_transaction(timeout=15)` was seen to return after 20 s, and a commit
after 74 s. A process whose transaction call overruns is of no use: it ends, its transaction is
aborted by the fence of its successor, and the supervisor starts it again.
"""

import os
import threading
from collections.abc import Callable, Generator
from contextlib import contextmanager

OVERRUN = 75  # exit code, EX_TEMPFAIL of sysexits.h: try again


@contextmanager
def watchdog(seconds: float, tell: Callable[[], None]) -> Generator[None]:
    """End the process with code 75 when the block takes longer than `seconds`, after calling `tell`."""

    def overrun() -> None:
        tell()
        os._exit(OVERRUN)

    timer = threading.Timer(seconds, overrun)
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()
