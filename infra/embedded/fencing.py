"""Starts a lone broker that may have been killed: first as a controller only, until its old registration has ended.

A broker that registers again waits until the session of its killed predecessor ends, 3 s later. Meanwhile it
leads by the old registration, takes up the transactions that were being committed, and when the session ends in
the middle of that, it skips their markers: they hang for ever (pipeline/decisions/0010). A controller with
nobody to lead ends the session within 100 ms, and the broker that starts after it leads nothing too early.

Run as a script of its own (standard library only), which becomes the broker's process.
"""

import collections
import contextlib
import ctypes
import json
import os
import queue
import re
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

PR_SET_PDEATHSIG = 1  # prctl(2)
LONGEST = 15.0  # seconds for the controller; the broker starts without it then, as it would have before
_ACTIVE = b"Performing controller activation"
_STANDING = re.compile(rb"Replayed .*(?:Register|RegistrationChange).*\bfenced=(true|false|1|-1)\b")


def killed(data: Path) -> bool:
    """Whether a broker has run on this data and was not stopped in order."""
    return (data / "recovery-point-offset-checkpoint").exists() and not (
        data / ".kafka_cleanshutdown"
    ).exists()


class Registration:
    """What a controller's log tells of the only broker's registration."""

    def __init__(self) -> None:
        self._active = False
        self._fenced = False

    def hear(self, line: bytes) -> bool:
        """One line more; True once the registration has ended."""
        self._active = self._active or _ACTIVE in line
        if told := _STANDING.search(line):
            self._fenced = told[1] in (b"true", b"1")
        return self._active and self._fenced


def fence(controller: list[str]) -> bool:
    """Run the controller until the registration has ended; False when it was not within `LONGEST` seconds."""
    child = subprocess.Popen(
        controller,
        stdout=subprocess.PIPE,
        preexec_fn=_die_with_parent if sys.platform.startswith("linux") else None,  # noqa: PLW1509
    )
    lines: queue.SimpleQueue[bytes] = queue.SimpleQueue()
    assert child.stdout is not None  # opened as a pipe above
    reader = threading.Thread(target=_read, args=(child.stdout.fileno(), lines), daemon=True)
    reader.start()
    try:
        return _ended(lines)
    finally:
        child.send_signal(signal.SIGTERM)
        try:
            child.wait(LONGEST)
        except subprocess.TimeoutExpired:
            child.kill()
            child.wait()
        reader.join()
        child.stdout.close()


def _ended(lines: "queue.SimpleQueue[bytes]") -> bool:
    registration, deadline = Registration(), time.monotonic() + LONGEST
    heard = collections.deque[bytes](maxlen=30)
    with contextlib.suppress(queue.Empty):
        while line := lines.get(timeout=max(0.0, deadline - time.monotonic())):
            if registration.hear(line):
                return True
            heard.append(line)
    sys.stderr.buffer.write(b"".join(heard))
    return False


def _read(pipe: int, lines: "queue.SimpleQueue[bytes]") -> None:
    with os.fdopen(os.dup(pipe), "rb") as output:
        for line in output:
            lines.put(line)
    lines.put(b"")


def _die_with_parent() -> None:
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)


def main() -> None:
    """Become the broker of the JSON object in the first argument: data, controller, broker."""
    spec = json.loads(sys.argv[1])
    if killed(Path(spec["data"])) and not fence(spec["controller"]):
        print("the old registration did not end in time; the broker starts all the same", file=sys.stderr)
    os.execv(spec["broker"][0], spec["broker"])  # noqa: S606  (the supervisor's own argv)


if __name__ == "__main__":
    main()
