"""A sender in memory: a scripted connector, profiles that can be away, a clock moved by hand."""

import asyncio
import random
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from connectors.contract import Accepted, Connector, Message, Outcome
from pipeline.adapters.render.liquid import Liquid
from pipeline.adapters.wire.codec import Wire
from pipeline.adapters.wire.ids import LockFile
from pipeline.model.breaker import Limits, Order
from pipeline.model.catalogue import Catalogue
from pipeline.model.delivery import Delivery, delivery_id
from pipeline.model.errors import DependencyDown
from pipeline.model.event import Channel, Event, user_key
from pipeline.model.ladder import TIERS, Tier
from pipeline.model.outcome import Outcome as Told
from pipeline.model.profile import Profile
from pipeline.model.recall import Recalls
from pipeline.model.record import Outgoing
from pipeline.model.template import Template
from pipeline.model.topics import OUTCOMES, deliver
from pipeline.observe import Meter
from pipeline.ports import Clock, Consumer, Producer, UserKey
from pipeline.stages.send.attempt import Tools
from pipeline.stages.send.step import Sender, run, topics
from pipeline.stages.send.ways import Provider
from tests.support.make import CATALOGUE, NOW, event, profile
from tests.support.memory_kafka import MemoryConsumer, MemoryKafka, MemoryProducer

WIRE = Wire(LockFile())
Answer = Outcome | Callable[[], Outcome]


class HandClock:
    """Stands still until it is moved."""

    def __init__(self, now: datetime = NOW) -> None:
        self.now = now

    def __call__(self) -> datetime:
        """Now."""
        return self.now

    def move(self, by: timedelta) -> None:
        """Later."""
        self.now += by


class ScriptedConnector:
    """Answers by script, then accepts; a message may be held until it is released."""

    name = "scripted"
    capacity = 1000

    def __init__(self, *answers: Outcome | Exception, only: str = "") -> None:
        self.answers = list(answers)
        self.only = only  # prefix of the delivery ids that the script is for: a shared broker has others
        self.sent: list[Message] = []
        self.held: dict[str, asyncio.Event] = {}  # by event id
        self.hold_all = False
        self.seconds = 0.0  # that each request takes

    async def send(self, message: Message) -> Outcome:
        """One request."""
        if not message.delivery_id.startswith(self.only):
            return Accepted()
        self.sent.append(message)
        await asyncio.sleep(self.seconds)
        if self.hold_all:
            self.held.setdefault(message.event_id, asyncio.Event())
        if message.event_id in self.held:
            await self.held[message.event_id].wait()
        answer = self.answers.pop(0) if self.answers else Accepted(provider_id=f"p-{message.event_id}")
        if isinstance(answer, Exception):
            raise answer
        return answer

    async def aclose(self) -> None:
        """Nothing is open."""


class MemoryProfiles:
    """Profiles by user; DependencyDown while they are away."""

    def __init__(self, *profiles: Profile) -> None:
        self.by_user = {(one.tenant, one.user_id): one for one in profiles}
        self.away = False
        self.queries: list[int] = []  # users of each
        self.asked = 0
        self.held: asyncio.Event | None = None

    async def fetch(self, users: Sequence[UserKey]) -> Mapping[UserKey, Profile]:
        """One query."""
        self.asked += 1
        await asyncio.sleep(0)
        if self.held is not None:
            await self.held.wait()
        if self.away:
            raise DependencyDown("away for the test")
        self.queries.append(len(users))
        return {user: self.by_user[user] for user in users if user in self.by_user}


class MemoryReceipts:
    """What was told of deliveries; DependencyDown while it is away."""

    def __init__(self, **fates: str) -> None:
        self.fates = dict(fates)
        self.away = False
        self.asked = 0

    async def fate(self, delivery_id: str) -> str | None:
        """One question."""
        self.asked += 1
        await asyncio.sleep(0)
        if self.away:
            raise DependencyDown("away for the test")
        return self.fates.get(delivery_id)


class OneTemplate:
    """The same words for everything, or none."""

    def __init__(self, **parts: str) -> None:
        self.parts = parts or {"title": "{{ flight }}", "text": "{{ flight }} {{ minutes }}"}

    def get(self, type: str, version: int, channel: str, locale: str) -> Template | None:
        """Version 3 only."""
        if version != 3:
            return None
        return Template(type=type, version=version, channel=channel, locale=locale, parts=self.parts)


def delivery(event_id: str = "e-1", channel: Channel = "apns", **changes: Any) -> Delivery:
    """A delivery to the first address of user u-1 or another, as the router writes it."""
    address_id = profile(changes.get("user_id", "u-1")).addresses[0].address_id
    carried: Event = changes.pop("carried", event(event_id))
    values: dict[str, Any] = {
        "delivery_id": delivery_id("acme", "u-1", event_id, channel, address_id),
        "event_id": event_id,
        "user_id": "u-1",
        "tenant": "acme",
        "type": "flight.cancelled",
        "category": "flights",
        "channel": channel,
        "lane": "normal",
        "address_id": address_id,
        "address": "at-decision",
        "locale": "en",
        "template_version": 3,
        "decided_at": NOW,
        "event": WIRE.encode(carried),
    }
    return Delivery(**{**values, **changes})


def record(of: Delivery, topic: str | None = None) -> Outgoing:
    """The delivery on its channel's topic."""
    return Outgoing(
        topic=topic or deliver(of.channel, of.lane),
        key=user_key(of.tenant, of.user_id),
        value=WIRE.encode(of),
    )


@dataclass
class Rig:
    """A sender and everything around it."""

    connector: ScriptedConnector
    others: tuple[Connector, ...] = ()  # that stand by
    providers: tuple[Provider, ...] = ()  # instead of these
    channel: Channel = "apns"
    in_flight: int = 20
    send_timeout: float = 5.0
    patience: float = 5.0
    breaker: Limits = field(default_factory=Limits)
    order: Order | None = None
    probe_after: float = 0.01
    tiers: tuple[Tier, ...] = TIERS
    clock: HandClock = field(default_factory=HandClock)
    profiles: MemoryProfiles = field(default_factory=MemoryProfiles)
    templates: OneTemplate = field(default_factory=OneTemplate)
    recalls: Recalls = field(default_factory=Recalls)
    receipts: MemoryReceipts | None = None
    catalogue: Catalogue = field(default_factory=lambda: CATALOGUE)

    def __post_init__(self) -> None:
        self.kafka = MemoryKafka(self.clock)
        self.consumer = MemoryConsumer(self.kafka, topics(self.channel))

    def sender(
        self, consumer: Consumer | None = None, producer: Producer | None = None, clock: Clock | None = None
    ) -> Sender:
        """Everything that the loop works with, on topics in memory or given ones."""
        tools = Tools(
            channel=self.channel,
            providers=self.providers or self._serving(),
            templates=self.templates,
            renderer=Liquid(),
            catalogue=self.catalogue,
            wire=WIRE,
            clock=clock or self.clock,
            tiers=self.tiers,
            send_timeout=self.send_timeout,
            recalls=lambda: self.recalls,
            receipts=self.receipts,
        )
        return Sender(
            tools=tools,
            consumer=consumer or self.consumer,
            producer=producer or MemoryProducer(self.kafka),
            profiles=self.profiles,
            chance=random.Random(1).random,
            meter=Meter(),
            in_flight=self.in_flight,
            breaker=self.breaker,
            probe_after=self.probe_after,
            patience=self.patience,
        )

    def _serving(self) -> tuple[Provider, ...]:
        first = Provider(connector=self.connector, orders=lambda: self.order)
        return (first, *(Provider(connector=one, weight=0) for one in self.others))

    @asynccontextmanager
    async def running(self) -> AsyncGenerator[None]:
        """The stage, stopped at the end as by SIGTERM."""
        stop = asyncio.Event()
        task = asyncio.create_task(run(self.sender(), stop))
        try:
            yield
        finally:
            stop.set()
            await asyncio.wait_for(task, 60)

    def told(self) -> list[Told]:
        """The outcomes so far."""
        return [WIRE.decode(Told, one.value) for one in self.kafka.read(OUTCOMES)]

    def committed(self, lane: str = "normal") -> int:
        """Where the group reads on."""
        return self.kafka.committed.get((f"notification.deliver.{self.channel}.{lane}", 0), 0)


async def eventually(holds: Callable[[], bool], seconds: float = 5.0) -> None:
    """Return as soon as `holds()`; fail after `seconds`."""
    async with asyncio.timeout(seconds):
        while not holds():  # noqa: ASYNC110 - conditions of any kind, none of which has an event
            await asyncio.sleep(0.002)
