"""Holds one child process: whatever becomes of the supervisor, the child ends with it.

Run as a script of its own (standard library only, no imports from the project), so that it starts in
20 ms and survives what the supervisor does not. It reads standard input and writes standard output:

    in   one byte     the number of a signal for the child
    in   end of file  the supervisor wants the child ended, or is gone: stop signal, grace, SIGKILL
    out  pid N        the child runs
    out  exit N       the child ended, with this return code (negative: by that signal)

The kernel closes the pipe when the supervisor dies by any means, `kill -9` included, and on Linux it
kills the child when the leash itself is killed (PR_SET_PDEATHSIG). The child has a session of its own:
a Ctrl-C at the terminal reaches the supervisor alone, which then stops everything in order.
"""

import contextlib
import ctypes
import json
import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any

PR_SET_PDEATHSIG = 1  # prctl(2)
LOG = 2  # the leash's standard error is the child's log


def _die_with_parent() -> Callable[[], None] | None:
    """What the child does before it becomes the program: ask for SIGKILL when the leash dies."""
    if not sys.platform.startswith("linux"):
        return None
    libc = ctypes.CDLL(None, use_errno=True)
    leash = os.getpid()

    def ask() -> None:
        libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
        if os.getppid() != leash:  # it died before the request was made
            os.kill(os.getpid(), signal.SIGKILL)

    return ask


def _start(spec: dict[str, Any]) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        spec["argv"],
        stdin=subprocess.DEVNULL,
        stdout=LOG,
        stderr=LOG,
        start_new_session=True,
        preexec_fn=_die_with_parent(),  # noqa: PLW1509  (one thread only: nothing can deadlock)
        user=spec["uid"],
        group=spec["gid"],
        extra_groups=None if spec["uid"] is None else [],
    )


def _tell(line: str) -> None:
    with contextlib.suppress(BrokenPipeError):  # nobody listens any more
        os.write(1, f"{line}\n".encode())


def _wakeup() -> int:
    """A descriptor that is readable once a child has ended or somebody asks the leash to end."""
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    for number in (signal.SIGCHLD, signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, lambda *_: None)
    signal.set_wakeup_fd(writer)
    return reader


def _hold(child: subprocess.Popen[bytes], wakeup: int) -> None:
    """Pass signals on until the child has ended or the supervisor is done with it."""
    while child.poll() is None:
        ready, _, _ = select.select([0, wakeup], [], [])
        if wakeup in ready and set(os.read(wakeup, 64)) != {signal.SIGCHLD}:
            return
        if 0 in ready:
            orders = os.read(0, 64)
            if not orders:
                return
            for number in orders:
                child.send_signal(number)


def _end(child: subprocess.Popen[bytes], wakeup: int, stop: int, grace: float) -> None:
    """Ask the child to stop, wait, then kill what is left of its session."""
    deadline = time.monotonic() + grace
    child.send_signal(stop)
    while child.poll() is None and (left := deadline - time.monotonic()) > 0:
        if select.select([wakeup], [], [], left)[0]:
            os.read(wakeup, 64)
    with contextlib.suppress(ProcessLookupError, PermissionError):  # nothing is left of it
        os.killpg(child.pid, signal.SIGKILL)
    child.wait()


def main() -> int:
    """Run the program of the JSON object in the first argument: argv, uid, gid, stop, grace."""
    spec = json.loads(sys.argv[1])
    wakeup = _wakeup()
    try:
        child = _start(spec)
    except (OSError, subprocess.SubprocessError, LookupError) as error:
        os.write(LOG, f"cannot start {spec['argv'][0]}: {error}\n".encode())
        _tell("exit 127")
        return 0
    _tell(f"pid {child.pid}")
    _hold(child, wakeup)
    _end(child, wakeup, spec["stop"], spec["grace"])
    _tell(f"exit {child.returncode}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
