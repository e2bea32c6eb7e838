"""Orders to a process that is to be broken on purpose: what to do when it reaches a step.

They are lines on standard input, `ACT STEP N SECONDS`: at the N-th time from now that STEP is reached, `kill`
ends the process by SIGKILL, `stop` stops it by SIGSTOP, `stall` says so on standard output and lets it sleep
for SECONDS. The step `anywhere` is reached SECONDS from now, wherever the process is. The end of the input
ends the process.
"""

import os
import signal
import threading
import time
from collections.abc import Callable, Collection
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from typing import TypeAlias

ANYWHERE = "anywhere"


Witness: TypeAlias = Callable[[str], AbstractContextManager[object]]
"""Told of an act, and entered while it is done: what it writes down may not change before the act."""


def _nobody(_act: str) -> AbstractContextManager[object]:
    """Tell nobody."""
    return nullcontext()


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """What to do, and when."""

    act: str  # kill, stop or stall
    step: str
    nth: int
    seconds: float

    def carry_out(self, witness: Witness = _nobody) -> None:
        """Now."""
        with witness(self.act):
            match self.act:
                case "kill":
                    os.kill(os.getpid(), signal.SIGKILL)
                case "stop":
                    os.kill(os.getpid(), signal.SIGSTOP)
                case _:
                    os.write(1, b"stalled\n")  # whoever ordered it may count from now
                    time.sleep(self.seconds)


class Orders:
    """The order in force, if any; the latest replaces the one before. Thread-safe."""

    def __init__(self, steps: Collection[str], witness: Witness = _nobody) -> None:
        """`steps`: those that are reached."""
        self._steps = steps
        self._witness = witness
        self._lock = threading.Lock()
        self._order: Order | None = None

    def listen(self) -> None:
        """Take orders until the input ends, which ends the process."""
        rest = b""
        # Not through sys.stdin: a thread that waits in it would break the interpreter's shutdown.
        while more := os.read(0, 4096):
            *lines, rest = (rest + more).split(b"\n")
            for line in lines:
                self._take_down(line.decode())
        os._exit(70)

    def due(self, step: str) -> Order | None:
        """The order to carry out at this step now, counted down; None when there is none."""
        with self._lock:
            order = self._order
            if order is None or order.step != step:
                return None
            last = order.nth <= 1
            self._order = None if last else replace(order, nth=order.nth - 1)
            return order if last else None

    def reached(self, step: str) -> None:
        """Carry out what is to be done at this step."""
        if (order := self.due(step)) is not None:
            order.carry_out(self._witness)

    def _take_down(self, line: str) -> None:
        act, step, nth, seconds = line.split()
        order = Order(act=act, step=step, nth=int(nth), seconds=float(seconds))
        if step == ANYWHERE:
            threading.Timer(order.seconds, order.carry_out, [self._witness]).start()
            return
        assert step in self._steps, f"{step} is no step"
        with self._lock:
            self._order = order
