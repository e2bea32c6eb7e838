"""Processes of a stage that do as they are told, and are started again when they die."""

import json
import os
import select
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import psutil

from infra.embedded import backoff
from tests.support.services import until

_LOOK = 0.01  # seconds between two looks at the processes
_END = 30.0  # seconds within which a process that is told to has ended


@dataclass(slots=True, kw_only=True)
class Worker:
    """One process of a stage."""

    instance: str
    process: "subprocess.Popen[bytes]"
    died_at: float | None = None  # of the monotonic clock

    def order(self, act: str, step: str, nth: int = 1, seconds: float = 0.0) -> None:
        """Tell it what to do when it reaches a step; see orders.py."""
        assert self.process.stdin is not None
        self.process.stdin.write(f"{act} {step} {nth} {seconds}\n".encode())
        self.process.stdin.flush()

    def stalled(self) -> bool:
        """Whether it has said that it stalls as ordered."""
        assert self.process.stdout is not None
        return bool(select.select([self.process.stdout], [], [], 0)[0] and self.process.stdout.readline())

    def stopped(self) -> bool:
        """Whether SIGSTOP holds it."""
        return psutil.Process(self.process.pid).status() == psutil.STATUS_STOPPED

    def signal(self, number: signal.Signals) -> None:
        """Send it a signal."""
        self.process.send_signal(number)

    def ended(self) -> int:
        """Wait for its end; its exit code."""
        try:
            return self.process.wait(_END)
        finally:
            self.died_at = self.died_at or time.monotonic()

    def close(self) -> None:
        """End it, however it is."""
        self.process.kill()
        self.process.wait()
        for pipe in (self.process.stdin, self.process.stdout):
            if pipe is not None:
                pipe.close()


@dataclass(slots=True, kw_only=True)
class _Slot:
    """An instance whose process is kept alive."""

    home: Path  # what it keeps on its disk
    overrides: Mapping[str, object] = field(default_factory=dict[str, object])
    worker: Worker | None = None
    start_at: float = 0.0
    first_order: tuple[str, str] | None = None  # for the next process of the instance, once


class Workers:
    """The processes of a stage, started again as the supervisor does after a first death. Thread-safe."""

    def __init__(self, module: str, name: str, environment: Mapping[str, str], home: Path) -> None:
        """`module` runs one; `name` is what logs and disks are called by, with the instance."""
        self.ends: Counter[int] = Counter()  # exit codes of all that have ended
        self._module = module
        self._name = name
        self._environment = environment
        self._home = home
        self._slots: dict[str, _Slot] = {}
        self._machines = Counter[str]()  # how often each instance has moved to another one
        self._all: list[Worker] = []
        self._lock = threading.Lock()
        self._stop = threading.Event()
        self._keeper = threading.Thread(target=self._keep, name="keeper")
        self._keeper.start()

    def close(self) -> None:
        """End all."""
        self._stop.set()
        self._keeper.join()
        for worker in self._all:
            worker.close()

    def up(self, instance: str, overrides: Mapping[str, object] | None = None) -> None:
        """Start an instance and keep it running, its consumer's settings overlaid."""
        with self._lock:
            self._slots[instance] = _Slot(home=self.home(instance), overrides=overrides or {})

    def down(self, instance: str, number: signal.Signals = signal.SIGTERM) -> float:
        """End an instance by a signal, and keep it down; when it had ended."""
        worker = self.get(instance)
        with self._lock:
            del self._slots[instance]
        worker.signal(number)
        self._count(worker)
        assert worker.died_at is not None
        return worker.died_at

    def get(self, instance: str) -> Worker:
        """The process of an instance, once there is one."""
        found = until(lambda: self._slots[instance].worker, _END, _LOOK)
        assert found is not None
        return found

    def killed(self, worker: Worker) -> float:
        """Wait until a process has killed itself, and for the one after it; when it had died."""
        until(lambda: worker.died_at, _END, _LOOK)
        assert worker.process.returncode == -signal.SIGKILL, f"it ended with {worker.process.returncode}"
        assert worker.died_at is not None
        return worker.died_at

    def replace(self, instance: str) -> Worker:
        """Start another process as an instance whose process goes on; that one, of which nobody takes care now.

        It starts as on another machine: with nothing on its disk.
        """
        with self._lock:
            self._machines[instance] += 1
            slot = self._slots[instance]
            old, slot.worker = slot.worker, None
            slot.home = self.home(instance)
        assert old is not None
        return old

    def order_next(self, instance: str, act: str, step: str) -> None:
        """An order for the process that comes after the one that runs."""
        with self._lock:
            self._slots[instance].first_order = (act, step)

    def home(self, instance: str) -> Path:
        """What an instance keeps on its disk."""
        return self._home / f"{self._name}-{instance}.{self._machines[instance]}"

    def _keep(self) -> None:
        while not self._stop.wait(_LOOK):
            with self._lock:
                for instance, slot in self._slots.items():
                    self._look_after(instance, slot)

    def _look_after(self, instance: str, slot: _Slot) -> None:
        now = time.monotonic()
        if slot.worker is not None and slot.worker.process.poll() is not None:
            self._count(slot.worker)
            slot.worker, slot.start_at = None, now + backoff.BASE
        if slot.worker is None and now >= slot.start_at:
            slot.worker = self._start(instance, slot)

    def _count(self, worker: Worker) -> None:
        self.ends[worker.ended()] += 1

    def _start(self, instance: str, slot: _Slot) -> Worker:
        slot.home.mkdir(exist_ok=True)
        with (self._home / f"{self._name}-{instance}.log").open("ab") as log:
            process = subprocess.Popen(
                [sys.executable, "-m", self._module, json.dumps(slot.overrides)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                env=os.environ
                | self._environment
                | {"EVERPOST_INSTANCE": instance, "EVERPOST_HOME": str(slot.home)},
            )
        worker = Worker(instance=instance, process=process)
        self._all.append(worker)
        if slot.first_order is not None:
            worker.order(*slot.first_order)
            slot.first_order = None
        return worker
