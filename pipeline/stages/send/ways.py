"""The ways of a channel: its providers in their order, each behind a gate of its own.

A delivery takes the way that `model/ways.py` names. One whose earlier attempt a provider may have taken
carries that provider's name, and goes by it alone or not at all. While every gate is closed deliveries wait
here; whoever comes when a probe is due is the probe.
"""

import asyncio
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from connectors.contract import Connector
from pipeline.model.breaker import Limits, Order
from pipeline.model.delivery import Delivery
from pipeline.model.event import LANES, Channel, Lane
from pipeline.model.rate import Bucket
from pipeline.model.ways import choose, point
from pipeline.stages.send.pause import FIRST_WAIT, Abandoned, Gate
from pipeline.stages.send.places import Places

_LOOK = 0.2  # seconds between two looks at whether a waiting record is still ours


@dataclass(frozen=True, slots=True, kw_only=True)
class Provider:
    """One that serves a channel."""

    connector: Connector
    weight: float = 1.0  # its part of the deliveries while all are well; 0: only when others are not
    rate: float | None = None  # requests a second, of all processes together
    orders: Callable[[], Order | None] = lambda: None  # what an operator wants of its breaker at this moment


class Way:
    """A provider with what this process knows of it."""

    def __init__(self, provider: Provider, gate: Gate) -> None:
        self.connector = provider.connector
        self.name = provider.connector.name
        self.weight = provider.weight
        self.orders = provider.orders
        self.gate = gate
        self._rate = provider.rate
        self.bucket = None if self._rate is None else Bucket(self._rate, time.monotonic())
        # Records are read ahead of the connector; who waits for a place has its last questions still to come.
        self.places = Places(provider.connector.capacity, self.bucket)

    def divide(self, share: float) -> None:
        """This process has a share (0 to 1) of the partitions, and so of the rate."""
        if self._rate is not None and self.bucket is not None and share > 0:
            self.bucket.change(self._rate * share, time.monotonic())

    def throttled(self) -> None:
        """The provider asks for less."""
        if self.bucket is not None:
            self.bucket.slow(time.monotonic())


class Pass(NamedTuple):
    """The way that a delivery may take; a probe calls `way.gate.leave` afterwards."""

    way: Way
    probe: bool
    era: int


class Astray(Exception):
    """The delivery is meant for one provider alone: `name`, which does not serve the channel."""


class Elsewhere(Exception):
    """The delivery is meant for one provider alone: `name`, which is closed while another is not."""


class Ways:
    """All of a process. Raises ValueError when there is none."""

    def __init__(
        self,
        channel: Channel,
        providers: Sequence[Provider],
        chance: Callable[[], float],
        first_wait: float = FIRST_WAIT,
        limits: Limits | None = None,
    ) -> None:
        if not providers:
            raise ValueError("a channel needs a provider")
        self.all = tuple(
            Way(one, Gate(channel, one.connector.name, chance, first_wait, limits)) for one in providers
        )
        self._first = self.all[0]
        # Stand-bys alone behind it, or nobody: nothing is to be chosen while the first is well.
        self._plain = not any(way.weight for way in self.all[1:])
        self._weights = [way.weight for way in self.all]

    @property
    def closed(self) -> bool:
        """Whether new records should not even be read."""
        return all(way.gate.closed for way in self.all)

    async def enter(self, delivery: Delivery, mine: Callable[[], bool]) -> Pass:
        """The way of this delivery, as soon as there is one.

        Raises Abandoned when `mine` becomes false, Astray and Elsewhere.
        """
        while (found := self._found(delivery)) is None:
            if not mine():
                raise Abandoned
            soonest = min(way.gate.wait() for way in self.all)
            await asyncio.sleep(min(_LOOK, soonest or _LOOK))
        return found

    def tally(self) -> None:
        """Let every breaker know what came since the last time; once a batch."""
        for way in self.all:
            way.gate.tally()

    def hear(self, share: float) -> None:
        """Ask what an operator wants; this process has `share` (0 to 1) of the partitions."""
        for way in self.all:
            way.gate.ordered(way.orders())
            way.divide(share)

    def spare(self) -> Mapping[Lane, int]:
        """How many records may be read for the tokens to come, by lane; lanes without a bound are absent."""
        rated = [way.places for way in self.all if way.bucket is not None and not way.gate.closed]
        return {lane: min(one.spare(lane) or 0 for one in rated) for lane in LANES if rated}

    def _found(self, delivery: Delivery) -> Pass | None:
        if delivery.provider is not None:
            return self._meant(delivery.provider)
        first = self._first
        for way in self.all:
            if way.gate.closed and way.gate.probe():
                return Pass(way, True, way.gate.era)
        if self._plain and first.gate.share() == 1.0:
            return Pass(first, False, first.gate.era)
        place = choose(self._weights, [way.gate.share() for way in self.all], point(delivery.delivery_id))
        return None if place is None else Pass(self.all[place], False, self.all[place].gate.era)

    def _meant(self, name: str) -> Pass | None:
        """For a delivery that one provider alone may have."""
        way = next((way for way in self.all if way.name == name), None)
        if way is None:
            raise Astray(name)
        probe = way.gate.probe()
        if way.gate.closed and not probe:
            if self.closed:
                return None
            raise Elsewhere(name)
        return Pass(way, probe, way.gate.era)
