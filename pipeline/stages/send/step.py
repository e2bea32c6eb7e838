"""The loop of a sender: read by lane, attempt at once, write down together, commit what is contiguous.

    1 read     as many records as there are free slots, urgent ones first
    2 attempt  each in a task of its own, in any order
    3 write    outcomes, retries and dead letters of all that ended meanwhile, acknowledged by Kafka
    4 commit   the offsets below which everything is written, and what is written beyond them

A crash between 2 and 4 repeats what was in flight, with the same identity at the provider; a crash
between 3 and 4 repeats its records too, which the account knows by delivery and attempt.
"""

import asyncio
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from pipeline.model.breaker import Limits
from pipeline.model.delivery import Delivery
from pipeline.model.errors import DependencyDown
from pipeline.model.event import LANES, Channel, Lane
from pipeline.model.record import Incoming, Outgoing
from pipeline.model.topics import deliver
from pipeline.observe import Log, Meter, Outage, heartbeat, link, span
from pipeline.ports import Consumer, Producer, Profiles
from pipeline.stages.send.attempt import Attempts, Tools
from pipeline.stages.send.decide import Verdict
from pipeline.stages.send.facts import Facts
from pipeline.stages.send.pause import Abandoned
from pipeline.stages.send.records import LEVELS, Settled, turned
from pipeline.stages.send.ways import Ways

_IDLE = 0.2  # seconds that a read waits for the first record
_FULL = 0.02  # seconds when a lane is full: its slots come free while the others have nothing
_LINGER = 0.02  # seconds that what has ended waits for more of its kind, to be written and committed at once
_LEAST = 8  # a lane is read again when this part of the slots is free: each read costs as much as ten records
_AWAY = 0.5  # seconds between two tries while Kafka is away
_LOOK = 0.2  # seconds between two looks at the operator's order and at the gate
_LEAVE = 9.0  # seconds after a stop until the process goes, whatever is still to be written

_log = Log(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Sender:
    """Everything that the loop works with."""

    tools: Tools
    consumer: Consumer
    producer: Producer
    profiles: Profiles
    chance: Callable[[], float]  # 0 to 1
    meter: Meter
    in_flight: int  # records between being read and being committed
    instance: str = "0"  # this process among the senders of the channel
    share: Callable[[], float] = lambda: 1.0  # its part of the channel's partitions, 0 to 1
    breaker: Limits = field(default_factory=Limits)
    probe_after: float = 1.0  # seconds from a channel fault to the first probe
    patience: float = 5.0  # seconds after a stop for answers that are still out; then they are uncertain


def topics(channel: Channel) -> tuple[str, ...]:
    """The topics of a channel, urgent first."""
    return tuple(deliver(channel, lane) for lane in LANES)


def rooms(
    channel: Channel, in_flight: int, busy: int, spare: Mapping[Lane, int] | None = None
) -> dict[str, int]:
    """How many records may be read, by topic: the whole batch may have that many once the topic is read.

    A tenth of the slots is kept for urgent records, half of them for urgent and normal ones, so that a
    broadcast to a slow provider leaves room for a one-time code. `spare`: what a rate leaves to a lane.
    """
    caps: dict[Lane, int] = {
        "urgent": in_flight,
        "normal": max(1, in_flight - in_flight // 10),
        "bulk": max(1, in_flight // 2),
    }
    least: dict[Lane, int] = {"urgent": 1, "normal": in_flight // _LEAST, "bulk": in_flight // _LEAST}
    free = {lane: caps[lane] - busy for lane in LANES}
    found: dict[str, int] = {}
    for lane in LANES:
        room = free[lane] if spare is None else min(free[lane], spare.get(lane, free[lane]))
        if free[lane] >= max(1, least[lane]) and room > 0:
            found[deliver(channel, lane)] = room
    return found


async def run(sender: Sender, stop: asyncio.Event) -> None:
    """Send until `stop` is set, then let go within ten seconds.

    Raises what ends the process: ConfigurationError, or an error of Kafka's client that no wait mends.
    """
    try:
        await _Loop(sender, stop).run()
    except ExceptionGroup as group:  # one task failed and the others were cancelled: there is one cause
        raise group.exceptions[0] from group


class _Loop:
    def __init__(self, sender: Sender, stop: asyncio.Event) -> None:
        self._sender = sender
        self._stop = stop
        tools = sender.tools
        self._ways = Ways(tools.channel, tools.providers, sender.chance, sender.probe_after, sender.breaker)
        self._facts = Facts(sender.profiles)
        self._attempts = Attempts(tools, self._ways, self._facts)
        self._busy = 0  # records read whose offsets do not count as done yet
        self._running: set[asyncio.Task[None]] = set()
        self._over: list[Settled] = []
        self._wake = asyncio.Event()
        self._outage = Outage(_log)

    async def run(self) -> None:
        _log.info("stage.started", channel=self._sender.tools.channel)
        self._ways.hear(self._sender.share())
        async with asyncio.TaskGroup() as tasks:
            helpers = [
                tasks.create_task(work) for work in (self._facts.run(), self._settle(), self._standing())
            ]
            await self._read(tasks)
            await self._let_go()
            for task in (*helpers, *self._running):
                task.cancel()
        _log.info("stage.stopped", channel=self._sender.tools.channel)

    async def _read(self, tasks: asyncio.TaskGroup) -> None:
        channel, outage = self._sender.tools.channel, Outage(_log)
        while not self._stop.is_set():
            heartbeat.beat()
            closed = self._ways.closed  # then one record is enough, to probe with
            free = rooms(channel, 1 if closed else self._sender.in_flight, self._busy, self._ways.spare())
            wait = _IDLE if closed or len(free) == len(LANES) else _FULL
            try:
                records = await self._sender.consumer.fetch(free, wait)
            except DependencyDown as error:
                outage.down(error)
                await asyncio.sleep(_AWAY)
                continue
            outage.back()
            self._busy += len(records)
            for record in records:
                task = tasks.create_task(self._attempt(record))
                self._running.add(task)
                task.add_done_callback(self._running.discard)

    async def _attempt(self, record: Incoming) -> None:
        def mine() -> bool:
            return not self._stop.is_set() and self._sender.consumer.owns(record)

        try:
            settled = await self._attempts.make(record, mine)
        except Abandoned:
            self._sender.consumer.abandon([record])
            self._busy -= 1
        else:
            self._over.append(settled)
            self._wake.set()

    async def _settle(self) -> None:
        while True:
            await self._wake.wait()
            await asyncio.sleep(_LINGER)
            self._wake.clear()
            over, self._over = self._over, []
            self._ways.tally()
            with span("process batch", stage="send", channel=self._sender.tools.channel) as batch:
                link(batch, (one.delivery.traceparent for one in over if one.delivery is not None))
                await self._write([record for settled in over for record in settled.written])
                await self._commit(over)
            self._busy -= len(over)
            self._tell(over)

    async def _standing(self) -> None:
        """Hear the operator, and tell where gates stand: as a metric always, as a record when one turns."""
        sender, told = self._sender, dict[str, str]()
        channel, clock = sender.tools.channel, sender.tools.clock
        while True:
            self._ways.hear(sender.share())
            for way in self._ways.all:
                state, order, why = way.gate.standing
                sender.meter.level("everpost.breaker", LEVELS[state], channel=channel, provider=way.name)
                if told.get(way.name) != (now := f"{state} {order}"):
                    told[way.name] = now
                    record = turned(channel, way.name, sender.instance, state, order, why, clock())
                    await self._write([record])
            await asyncio.sleep(_LOOK)

    async def _write(self, records: Sequence[Outgoing]) -> None:
        """Return when all is acknowledged, however long Kafka is away."""
        while True:
            try:
                await self._sender.producer.send_all(records)
            except DependencyDown as error:
                self._outage.down(error)
                await asyncio.sleep(_AWAY)
            else:
                self._outage.back()
                return

    async def _commit(self, over: Sequence[Settled]) -> None:
        try:
            await self._sender.consumer.commit([settled.source for settled in over])
        except DependencyDown as error:
            self._outage.down(error)  # they count as done: the next commit brings them

    async def _let_go(self) -> None:
        """Nothing new is read: wait for what is out, write it down, give the rest back."""
        try:
            async with asyncio.timeout(_LEAVE):
                await self._drained(self._sender.patience)
                self._attempts.hurry()
                await self._drained(_LEAVE)
        except TimeoutError:
            _log.warning("stage.stopped", channel=self._sender.tools.channel, unfinished=self._busy)

    async def _drained(self, seconds: float) -> None:
        for _ in range(int(seconds / _FULL)):
            if not self._busy:
                return
            await asyncio.sleep(_FULL)

    def _tell(self, over: Sequence[Settled]) -> None:
        channel, meter = self._sender.tools.channel, self._sender.meter
        results = Counter("unreadable" if one.verdict is None else one.verdict.result for one in over)
        for result, count in results.items():
            meter.add("everpost.attempts", count, channel=channel, outcome=result)
        _tell_dead(over)
        _log.info("batch.committed", channel=channel, records=len(over), **results)


def _tell_dead(over: Sequence[Settled]) -> None:
    """One line for each reason: a line takes 35 µs, and a list of dead addresses would write thousands."""
    dead: dict[tuple[str | None, str], list[tuple[Delivery, Verdict]]] = defaultdict(list)
    for one in over:
        if one.delivery is not None and one.verdict is not None and one.verdict.state == "dead":
            dead[one.verdict.disposition, one.verdict.code].append((one.delivery, one.verdict))
    for found in dead.values():
        delivery, verdict = found[0]
        _log.warning(
            "delivery.dead",
            count=len(found),
            disposition=verdict.disposition,
            code=verdict.code,
            reason=verdict.reason,
            delivery_id=delivery.delivery_id,
        )
