"""The real router in a process of its own, which does as it is told when it reaches a step: `[SETTINGS]`.

Orders come on standard input, see orders.py. SETTINGS is a JSON object of consumer settings to be laid over the
router's own; null takes one away. The steps are seen where the router calls its clients, so that
nothing here knows its inside.
"""

import json
import sys
import threading
from typing import Any
from unittest import mock

from confluent_kafka import Consumer, Message, Producer, TopicPartition

from pipeline import settings, wiring
from pipeline.adapters.kafka import bulk, transact
from pipeline.adapters.postgres.recalls import Fresh
from pipeline.model.recall import Recalls
from pipeline.wiring import route
from tests.faults.orders import Orders
from tests.faults.schedule import STEPS

_FLUSH = 5.0  # seconds


_orders = Orders(STEPS)
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
        mock.patch.object(bulk, "Producer", _Producer),
        mock.patch.object(route, "Fresh", _Recalls),
    ):
        return wiring.run_stage("route", settings.load())


if __name__ == "__main__":
    sys.exit(main())
