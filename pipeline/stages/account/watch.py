"""The watch over the ledger: one process looks again and again, and tells what has changed.

    1 lead   one process watches; the others stand by
    2 look   the balance, and where everything is that stands still
    3 tell   a line when something is new, and one when it is settled; the figures as metrics

A look that cannot be had (Kafka or PostgreSQL is away) is told once, and tried again.
"""

import asyncio
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping
from typing import Protocol

from pipeline.model.errors import EverpostError
from pipeline.model.watch import Survey
from pipeline.observe import Log, Meter, Outage

_SHARE = 10  # a look takes at most this part of the time, however long the log has become
_log = Log(__name__)


class Lead(Protocol):
    """Who watches."""

    async def mine(self) -> bool:
        """Whether it is this process. Raises DependencyDown."""
        ...


class Teller:
    """Tells what is new since the last look."""

    def __init__(self, meter: Meter) -> None:
        self._meter = meter
        self._told: Mapping[str, str] = {}
        self._places = set[tuple[str, str, str]]()

    def tell(self, found: Survey) -> None:
        """Log lines for what has changed, metrics for all of it."""
        told = found.told
        for name in told.keys() - self._told.keys():
            _log.error("ledger.stuck", subject=name, message=told[name])
        for name in self._told.keys() - told.keys():
            _log.info("ledger.settled", subject=name)
        self._told = told
        self._measure(found)

    def _measure(self, found: Survey) -> None:
        ledger = found.ledger
        for state, count in (
            ("accepted", ledger.accepted),
            ("final", ledger.final),
            ("in_flight", ledger.in_flight),
        ):
            self._meter.level("everpost.ledger.events", count, state=state)
        self._meter.level("everpost.ledger.missing", ledger.accepted - ledger.final - ledger.in_flight)
        counts = Counter[tuple[str, str, str]]()
        for one in found.stuck:
            counts[one.kind, one.topic, "yes" if one.queued else "no"] += one.records
        self._places |= counts.keys()
        for kind, topic, queued in self._places:  # what is settled goes back to nought
            value = counts[kind, topic, queued]
            self._meter.level("everpost.ledger.stuck", value, kind=kind, destination=topic, queued=queued)


async def run(
    look: Callable[[], Awaitable[Survey]], lead: Lead, *, stop: asyncio.Event, every: float, meter: Meter
) -> None:
    """Watch until `stop` is set. `every`: seconds between two looks, at least."""
    teller, outage = Teller(meter), Outage(_log)
    while not stop.is_set():
        began = time.monotonic()
        try:
            if await lead.mine():
                teller.tell(await look())
            else:
                teller = Teller(meter)  # the other one tells it
        except EverpostError as error:
            outage.down(error)
        else:
            outage.back()
        await _nap(stop, max(every, _SHARE * (time.monotonic() - began)))


async def _nap(stop: asyncio.Event, seconds: float) -> None:
    try:
        await asyncio.wait_for(stop.wait(), seconds)
    except TimeoutError:
        return
