"""One delivery, from its record to what is to be written down.

1 read      the delivery and the event in it; what cannot be read is dead
  receipt   for an SMS whose answer was lost: what has become of it (`uncertain.py`)?
2 way       a provider that is well, or wait (`ways.py`)
3 ask       too late? still wanted, and where? (asked again for a retry, or when time has passed) recalled?
4 words     template and event to a message
5 send      exactly one request, under a limit of its own
6 decide    `decide.after`; a channel fault goes back to 2 with the same record, and so does what the provider
            has refused while its breaker is open
"""

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

from connectors.contract import Message, Outcome, Uncertain
from pipeline.model.catalogue import Catalogue, Category
from pipeline.model.dead import AS_OF_DECISION, AWAITS_RECEIPT
from pipeline.model.delivery import Delivery
from pipeline.model.errors import DependencyDown, Unreadable
from pipeline.model.event import Channel, Event
from pipeline.model.ladder import Tier
from pipeline.model.recall import Recalls
from pipeline.model.record import Incoming
from pipeline.model.template import Unrenderable
from pipeline.model.unsubscribe import Link
from pipeline.observe import Log, Outage
from pipeline.ports import Clock, Codec, Receipts, Renderer, Templates
from pipeline.stages.send.decide import (
    Current,
    Pause,
    Verdict,
    after,
    astray,
    confirmed,
    is_doubtful,
    is_stale,
    parked,
    recalled,
    still_wanted,
    too_late,
    unrenderable,
)
from pipeline.stages.send.facts import Facts
from pipeline.stages.send.patience import Patience
from pipeline.stages.send.pause import Abandoned
from pipeline.stages.send.records import Settled, settled, unreadable
from pipeline.stages.send.uncertain import by_receipt, waiting
from pipeline.stages.send.ways import Astray, Elsewhere, Pass, Provider, Way, Ways
from pipeline.stages.send.words import to_message

_MARGIN = 2.0  # seconds: a connector keeps its own timeout; this one is the belt for one that does not
_AWAY = 0.5  # seconds between two tries while the registry is away

T = TypeVar("T")
_log = Log(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Tools:
    """What every attempt of a process shares."""

    channel: Channel
    providers: tuple[Provider, ...]  # in their order
    templates: Templates
    renderer: Renderer
    catalogue: Catalogue
    wire: Codec
    clock: Clock
    tiers: tuple[Tier, ...]
    send_timeout: float  # seconds
    recalls: Callable[[], Recalls] = Recalls  # the orders in force at this moment
    link: Link | None = None  # makes unsubscribe links; None: mails have none
    receipts: Receipts | None = None  # None: none come, so an SMS whose answer was lost is given up at once


@dataclass(frozen=True, slots=True, kw_only=True)
class _Answer:
    """An outcome, and the seconds that the provider took."""

    outcome: Outcome
    seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class _Judged:
    """The verdict; and the provider that was asked with the seconds that it took, if one was."""

    verdict: Verdict
    provider: str = ""
    seconds: float = 0.0


class Attempts:
    """Makes attempts; knows those that wait for their answer."""

    def __init__(self, tools: Tools, ways: Ways, facts: Facts) -> None:
        self._tools = tools
        self._ways = ways
        self._facts = facts
        self._outage = Outage(_log)
        self._patience = Patience(tools.send_timeout + _MARGIN)

    @property
    def waiting(self) -> int:
        """How many requests wait for their answer."""
        return len(self._patience)

    def hurry(self) -> None:
        """The process leaves: whoever waits for an answer now waits no longer, and it counts as uncertain."""
        self._patience.end()

    async def make(self, source: Incoming, mine: Callable[[], bool]) -> Settled:
        """One attempt. Raises Abandoned when `mine` becomes false before anything was sent."""
        wire = self._tools.wire
        try:
            delivery = await self._patiently(lambda: wire.decode(Delivery, source.value), mine)
            if delivery.channel != self._tools.channel:
                raise Unreadable(f"a delivery for {delivery.channel}, not {self._tools.channel}")  # noqa: TRY301
            if delivery.attempt < 1:  # forged: below 1 it would have more attempts than the ladder has rungs
                raise Unreadable(f"attempt {delivery.attempt}: they count from 1")  # noqa: TRY301
        except Unreadable as error:
            _log.warning("record.rejected", topic=source.topic, offset=source.offset, error=str(error))
            return unreadable(source, self._tools.channel, error)
        judged = None
        if AWAITS_RECEIPT in source.headers:
            judged = await self._by_receipt(delivery, mine)
        judged = judged or await self._judge(delivery, AS_OF_DECISION in source.headers, mine)
        return await self._patiently(
            lambda: settled(
                wire,
                source,
                delivery,
                judged.verdict,
                self._tools.clock(),
                provider=judged.provider,
                seconds=judged.seconds,
            ),
            lambda: True,  # it is sent: what came of it is written whoever owns the record by now
        )

    async def _judge(self, delivery: Delivery, as_of_decision: bool, mine: Callable[[], bool]) -> _Judged:
        """What comes of it, however many ways are tried for it."""
        tools = self._tools
        while True:
            try:
                found = await self._ways.enter(delivery, mine)
            except Astray as error:
                return _Judged(verdict=astray(delivery, str(error)))
            except Elsewhere as error:
                return _Judged(verdict=parked(delivery, str(error), tools.clock(), tools.tiers))
            try:
                judged = await self._go(found, delivery, as_of_decision, mine)
            finally:
                if found.probe:
                    found.way.gate.leave()
            if judged is not None:
                return judged

    async def _go(
        self, found: Pass, delivery: Delivery, as_of_decision: bool, mine: Callable[[], bool]
    ) -> _Judged | None:
        """By this way. None: the provider has not taken it, and the delivery looks for a way again."""
        gate = found.way.gate
        wanted = await self._wanted(delivery, as_of_decision, mine)
        if isinstance(wanted, Verdict):
            return _Judged(verdict=wanted)
        answer = await self._answer(found, *wanted, mine)
        if answer is None or isinstance(answer, Verdict):
            return answer and _Judged(verdict=answer)
        verdict = after(delivery, answer.outcome, self._tools.clock(), self._tools.tiers)
        if isinstance(verdict, Pause):
            gate.fault(verdict.reason, verdict.code, probe=found.probe)
            return None
        if verdict.disposition == "uncertain" and self._tools.receipts is not None:
            category, tools = self._category(delivery), self._tools
            verdict = waiting(delivery, verdict, category, tools.clock(), tools.tiers)
        if verdict.result == "throttled":
            found.way.throttled()
        if gate.answered(verdict.result, probe=found.probe, era=found.era):
            return _Judged(verdict=verdict, provider=found.way.name, seconds=answer.seconds)
        return None

    async def _by_receipt(self, delivery: Delivery, mine: Callable[[], bool]) -> _Judged | None:
        """What has become of an SMS whose answer was lost; None: it is to be sent again."""
        fate = await self._fate(delivery.delivery_id, mine)
        verdict = by_receipt(fate, self._category(delivery))
        return verdict and _Judged(verdict=verdict, provider=delivery.provider or "")

    async def _fate(self, delivery_id: str, mine: Callable[[], bool]) -> str | None:
        while self._tools.receipts is not None:
            try:
                fate = await self._tools.receipts.fate(delivery_id)
            except DependencyDown as error:
                self._outage.down(error)
                await asyncio.sleep(_AWAY)
                if not mine():
                    raise Abandoned from error
            else:
                self._outage.back()
                return fate
        return None

    async def _wanted(
        self, delivery: Delivery, as_of_decision: bool, mine: Callable[[], bool]
    ) -> tuple[Current, Event] | Verdict:
        """Where it goes and of what it tells, or why it goes nowhere."""
        tools, now = self._tools, self._tools.clock()
        late = too_late(delivery, now)
        if late is not None:
            return late
        current = Current(delivery=delivery, registered_at=None)
        if is_stale(delivery, now):
            profile = await self._facts.profile((delivery.tenant, delivery.user_id), mine)
            judged = still_wanted(delivery, profile, self._category(delivery), as_of_decision=as_of_decision)
            if isinstance(judged, Verdict):
                return judged
            current = judged
        try:
            event = await self._patiently(lambda: tools.wire.decode(Event, delivery.event), mine)
        except Unreadable as error:
            return unrenderable(f"the event in the delivery cannot be read: {error}")
        return current, event

    async def _answer(
        self, found: Pass, current: Current, event: Event, mine: Callable[[], bool]
    ) -> _Answer | Verdict | None:
        """What the provider says, asked as soon as there is a place; or why it is not asked.

        None: while it waited for a place the gate has closed.
        """
        way, probe, _ = found
        await way.places.take(current.delivery.lane)
        try:
            if way.gate.closed and not probe:
                return None
            message = self._message(current, event, mine)
            if isinstance(message, Verdict):
                return message
            began = time.monotonic()
            outcome = await self._send(way, message)
            seconds = time.monotonic() - began
        finally:
            way.places.leave()
        if is_doubtful(outcome, current):
            delivery = current.delivery
            # It is sent: the answer is waited for whoever owns the record by now.
            profile = await self._facts.profile((delivery.tenant, delivery.user_id), lambda: True)
            outcome = confirmed(outcome, delivery, profile)
        return _Answer(outcome=outcome, seconds=seconds)

    def _message(self, current: Current, event: Event, mine: Callable[[], bool]) -> Message | Verdict:
        """The message, right before it is sent, or why there will be none."""
        tools, now = self._tools, self._tools.clock()
        if not mine():
            raise Abandoned
        stopped = too_late(current.delivery, now) or recalled(current.delivery, event, tools.recalls())
        if stopped is not None:
            return stopped
        message = to_message(
            current,
            event,
            now,
            templates=tools.templates,
            renderer=tools.renderer,
            catalogue=tools.catalogue,
            link=tools.link,
        )
        return unrenderable(str(message)) if isinstance(message, Unrenderable) else message

    async def _send(self, way: Way, message: Message) -> Outcome:
        connector = way.connector
        try:
            return await self._patience.wait(connector.send(message))
        except TimeoutError:
            return Uncertain(reason=f"{connector.name} gave no answer in time")
        except Exception as error:  # noqa: BLE001 - a connector's bug must not stop the partition of one message
            _log.error(
                "delivery.dead",
                delivery_id=message.delivery_id,
                error=type(error).__name__,
                by=connector.name,
            )
            return Uncertain(reason=f"{connector.name} failed with {type(error).__name__}")

    def _category(self, delivery: Delivery) -> Category:
        kind = self._tools.catalogue.get(delivery.type)
        if kind is not None:
            return kind.category
        return Category(name=delivery.category, required=delivery.required)

    async def _patiently(self, call: Callable[[], T], mine: Callable[[], bool]) -> T:
        """What `call` gives, once the registry answers."""
        while True:
            try:
                found = call()
            except DependencyDown as error:
                self._outage.down(error)
                await asyncio.sleep(_AWAY)
                if not mine():
                    raise Abandoned from error
            else:
                self._outage.back()
                return found
