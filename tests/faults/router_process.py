"""The real router in a process of its own, which does as it is told when it reaches a step: `[SETTINGS]`.

Orders are lines on standard input, `ACT STEP N SECONDS`: at the N-th time from now that STEP is reached,
`kill` ends the process by SIGKILL, `stop` stops it by SIGSTOP, `stall` says so on standard output and lets it
sleep for SECONDS. The end of the input ends the process. SETTINGS is a JSON object of consumer settings to be laid over the
router's own; null takes one away. The steps are seen where the router calls its clients, so that
nothing here knows its inside.
"""

import json
import os
import signal
import sys
import threading
import time
from dataclasses import dataclass, replace
from typing import Any
from unittest import mock

from confluent_kafka import Consumer, Message, Producer, TopicPartition

from pipeline import settings, wiring
from pipeline.adapters.kafka import transact
from pipeline.adapters.postgres.recalls import Fresh
from pipeline.model.recall import Recalls
from pipeline.wiring import route
from tests.faults.schedule import STEPS

_FLUSH = 5.0  # seconds


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """What to do, and when."""

    act: str  # kill, stop or stall
    step: str
    nth: int
    seconds: float

    def carry_out(self) -> None:
        """Now."""
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

    def __init__(self) -> None:
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
            order.carry_out()

    def _take_down(self, line: str) -> None:
        act, step, nth, seconds = line.split()
        assert step in STEPS, f"{step} is no step"
        with self._lock:
            self._order = Order(act=act, step=step, nth=int(nth), seconds=float(seconds))


_orders = Orders()
_overrides: dict[str, Any] = {}


class _Consumer(Consumer):
    """The router's consumer, watched."""

    def __init__(self, config: dict[str, Any]) -> None:
        merged = {**config, **_overrides}
        super().__init__({key: value for key, value in merged.items() if value is not None})

    def assign(self, partitions: list[TopicPartition]) -> None:
        _orders.reached("restored")
        super().assign(partitions)

    def consume(self, num_messages: int = 1, timeout: float = -1) -> list[Message]:
        found = super().consume(num_messages, timeout)
        if found:
            _orders.reached("read")
        return found


class _Producer(Producer):
    """The router's producer, watched."""

    def begin_transaction(self) -> None:
        _orders.reached("decided")
        super().begin_transaction()
        _orders.reached("begun")

    def send_offsets_to_transaction(
        self, positions: list[TopicPartition], group_metadata: Any, timeout: float = -1
    ) -> None:
        if (order := _orders.due("produced")) is not None:
            self.flush(_FLUSH)  # what is still in the queue would die with the process, and prove less
            order.carry_out()
        super().send_offsets_to_transaction(positions, group_metadata, timeout)
        _orders.reached("offsets")

    def commit_transaction(self, timeout: float = -1) -> None:
        order = _orders.due("committing")
        if order is not None:
            threading.Timer(order.seconds, order.carry_out).start()
        super().commit_transaction(timeout)
        if order is not None:
            order.carry_out()
        _orders.reached("committed")


class _Recalls(Fresh):
    """The orders in force, watched: the last of the facts that the router gathers for a batch."""

    async def refresh(self) -> Recalls:
        found = await super().refresh()
        _orders.reached("gathered")
        return found


def main() -> int:
    """Run the router with its own wiring, until it is told to stop by SIGTERM. Gives its exit code."""
    _overrides.update(json.loads(sys.argv[1]))
    threading.Thread(target=_orders.listen, daemon=True).start()
    with (
        mock.patch.object(transact, "Consumer", _Consumer),
        mock.patch.object(transact, "Producer", _Producer),
        mock.patch.object(route, "Fresh", _Recalls),
    ):
        return wiring.run_stage("route", settings.load())


if __name__ == "__main__":
    sys.exit(main())
