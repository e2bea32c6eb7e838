"""The real sender in a process of its own, which does as it is told when it reaches a step: `SETTINGS`.

Orders come on standard input, see orders.py. SETTINGS is a JSON object: `stage` is the sender to run, `notes`
the file to which it appends, right before it is killed or stopped by an order, what it then has in flight:
deliveries whose request is begun and whose outcome is not yet durable with its offset. The steps are seen where the
sender calls its clients, so that nothing here knows its inside.
"""

import json
import os
import sys
import threading
import time
from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from contextlib import contextmanager
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from unittest import mock

from connectors.contract import Connector, Message, Outcome
from pipeline import settings, wiring
from pipeline.adapters.kafka.consume import KafkaConsumer
from pipeline.adapters.kafka.produce import KafkaProducer
from pipeline.adapters.wire.codec import Wire
from pipeline.adapters.wire.ids import LockFile
from pipeline.model.delivery import Delivery
from pipeline.model.record import Incoming, Writable
from pipeline.wiring import loop, send
from tests.faults.orders import Orders
from tests.faults.sender_schedule import STEPS

_WIRE = Wire(LockFile())


class _Flight:
    """Deliveries in flight, as notes tell of them."""

    def __init__(self) -> None:
        self.file = Path(os.devnull)
        self._ids: set[str] = set()
        self._lock = threading.Lock()

    def begin(self, delivery_id: str) -> None:
        with self._lock:
            self._ids.add(delivery_id)

    def over(self, records: Iterable[Incoming]) -> None:
        for record in records:
            self._ids.discard(_WIRE.decode(Delivery, record.value).delivery_id)

    @contextmanager
    def noted(self, act: str) -> Generator[None]:
        """Write down what is in flight. Nothing more takes off before the act: an order may come on a thread."""
        with self._lock:
            row = {"act": act, "pid": os.getpid(), "at": time.monotonic(), "ids": sorted(self._ids.copy())}
            with self.file.open("a") as notes:
                notes.write(json.dumps(row) + "\n")
            yield


_flight = _Flight()
_orders = Orders(STEPS, _flight.noted)


class _Consumer(KafkaConsumer):
    """The sender's consumer, watched."""

    async def fetch(self, rooms: Mapping[str, int], wait: float) -> list[Incoming]:
        found = await super().fetch(rooms, wait)
        if found:
            _orders.reached("read")
        return found

    async def commit(self, records: Iterable[Incoming]) -> None:
        done = list(records)
        _orders.reached("written")
        await super().commit(done)
        _flight.over(done)
        _orders.reached("committed")


class _Producer(KafkaProducer):
    """The sender's producer, watched."""

    async def send_all(self, records: Sequence[Writable]) -> None:
        _orders.reached("answered")
        await super().send_all(records)


class _Connector:
    """A connector, watched."""

    def __init__(self, real: Connector) -> None:
        self._real = real
        self.name = real.name
        self.capacity = real.capacity

    async def send(self, message: Message) -> Outcome:
        _flight.begin(message.delivery_id)
        return await self._real.send(message)

    async def aclose(self) -> None:
        await self._real.aclose()


class _Entry:
    """An entry point whose connectors are watched."""

    def __init__(self, real: EntryPoint) -> None:
        self._real = real

    def load(self) -> Callable[[Mapping[str, str]], _Connector]:
        create: Callable[[Mapping[str, str]], Connector] = self._real.load()
        return lambda options: _Connector(create(options))


def _entry_points(group: str, name: str) -> list[_Entry]:
    return [_Entry(one) for one in entry_points(group=group, name=name)]


def main() -> int:
    """Run the sender with its own wiring, until it is told to stop by SIGTERM. Gives its exit code."""
    given = json.loads(sys.argv[1])
    _flight.file = Path(given["notes"])
    threading.Thread(target=_orders.listen, daemon=True).start()
    with (
        mock.patch.object(loop, "KafkaConsumer", _Consumer),
        mock.patch.object(loop, "KafkaProducer", _Producer),
        mock.patch.object(send, "entry_points", _entry_points),
    ):
        return wiring.run_stage(given["stage"], settings.load())


if __name__ == "__main__":
    sys.exit(main())
