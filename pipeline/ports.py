"""What the steps need from outside, at most four verbs each.

A port is declared for its user. Every method raises `DependencyDown` when the other side does not
answer in time; the step then pauses and tries again, and skips nothing.
"""

from collections.abc import Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from datetime import datetime
from typing import NamedTuple, Protocol, TypeVar
from uuid import UUID

from pipeline.model.decision import Decision
from pipeline.model.delivery import Delivery, Owner
from pipeline.model.engagement import Engagement
from pipeline.model.event import Channel, Event, Value
from pipeline.model.hold import Hold, Timer
from pipeline.model.outcome import Outcome
from pipeline.model.profile import Profile
from pipeline.model.record import Headers, Incoming, Outgoing
from pipeline.model.template import Template, Unrenderable

UserKey = tuple[str, str]  # (tenant, user_id)
Record = Event | Decision | Delivery | Outcome | Engagement | Hold
R = TypeVar("R", bound=Record)


class Glance(NamedTuple):
    """What stands in an ordinary event: neither deliver_at nor channels of its own. Times in ms.

    Texts are as Avro encodes them (length, UTF-8) where they are only passed on.
    """

    event_id_encoded: bytes
    event_id: str
    kind: bytes  # the type's text, then one byte for the lane
    created_at: int
    expires_at: int | None
    collapse_key: bytes | None
    locale: bytes | None
    traceparent: bytes | None
    data: Mapping[str, Value]


class Codec(Protocol):
    """Records as bytes, in the Confluent wire format."""

    def encode(self, record: Record) -> bytes:
        """The bytes of a record. Raises DependencyDown when its schema id must be asked for in vain."""
        ...

    def decode(self, cls: type[R], value: bytes | None) -> R:
        """The record in the bytes. Raises Unreadable (no such record) or DependencyDown."""
        ...

    def head(self, cls: type[Record]) -> bytes:
        """What the bytes of such a record begin with: magic byte and schema id. Raises DependencyDown."""
        ...

    def glance(self, value: bytes, owner: bytes) -> Glance | None:
        """What stands in an ordinary event whose user_id and tenant, as Avro encodes them, are `owner`.

        None for everything else, which `decode` then tells apart. Raises DependencyDown.
        """
        ...


class Profiles(Protocol):
    """The users' profiles, read fresh."""

    async def fetch(self, users: Sequence[UserKey]) -> Mapping[UserKey, Profile]:
        """Profiles with active addresses and preferences, in one query; unknown users are absent."""
        ...


class Preferences(Protocol):
    """The users' wishes, changed by themselves."""

    async def opt_out(self, tenant: str, user_id: str, category: str, channel: Channel) -> None:
        """The user gets no more of a category on a channel, from the next decision on. Raises DependencyDown."""
        ...


class Templates(Protocol):
    """The words, by immutable version."""

    def get(self, type: str, version: int, channel: str, locale: str) -> Template | None:
        """The template, or None when there is none."""
        ...


class Renderer(Protocol):
    """Words out of a template and the variables of an event."""

    def render(self, template: Template, data: Mapping[str, Value]) -> Mapping[str, str] | Unrenderable:
        """The rendered parts by name; the same again for the same arguments."""
        ...


class OutboxRow(NamedTuple):
    """A row of the outbox, and the record to be written (a `Writable`): nothing is encoded again."""

    id: UUID
    topic: str
    key: bytes
    value: bytes
    headers: Headers = ()
    partition: int | None = None  # always: the key decides


class Outbox(Protocol):
    """The outbox table, as the relay sees it."""

    async def claim(self, limit: int) -> Sequence[OutboxRow]:
        """Of the shares that are ours the oldest rows that wait, each share's in order; about `limit` in all.

        What is neither settled nor set aside comes again with the next claim.
        """
        ...

    async def settle(self, ids: Sequence[UUID]) -> None:
        """Remove rows that Kafka has acknowledged."""
        ...

    async def set_aside(self, id: UUID, error: str) -> None:
        """Park a row that Kafka refuses, so that it blocks nobody."""
        ...

    async def wait(self, seconds: float) -> None:
        """Return when a row may have come since the last claim, at the latest after `seconds`."""
        ...


class RowProducer(Protocol):
    """The relay's way to write; a `Producer` that takes its rows as they are."""

    async def send_all(self, records: Sequence[OutboxRow]) -> None:
        """Return when every row is acknowledged by all in-sync replicas; raises as `Producer.send_all` does."""
        ...


class Timers(Protocol):
    """The holds that wait, kept in Postgres."""

    async def store(self, timers: Sequence[Timer]) -> None:
        """Keep them; the same again changes nothing."""
        ...

    def due(self, now: datetime, limit: int) -> AbstractAsyncContextManager[Sequence[Timer]]:
        """The earliest that are due, nobody else's meanwhile: forgotten after the block, unless it raises."""
        ...

    async def next(self) -> datetime | None:
        """When the next one wakes; None when none waits."""
        ...


class Log(Protocol):
    """The notification log in Postgres."""

    async def write(
        self, decisions: Sequence[Decision], outcomes: Sequence[Outcome], engagements: Sequence[Engagement]
    ) -> None:
        """Write in one transaction; the same records again change nothing."""
        ...


class Owners(Protocol):
    """The notification log, asked whose a delivery is."""

    async def find(self, delivery_id: str) -> Owner | None:
        """None while the log does not know it."""
        ...


class Receipts(Protocol):
    """What providers have told after they took a message."""

    async def fate(self, delivery_id: str) -> str | None:
        """What became of a delivery, in the words of `connectors.contract.Fate`; None: nothing was told."""
        ...


class Clock(Protocol):
    """The only way to the time of day."""

    def __call__(self) -> datetime:
        """Now, aware, UTC."""
        ...


class Producer(Protocol):
    """The asyncio way to write records."""

    async def send_all(self, records: Sequence[Outgoing]) -> None:
        """Return when every record is acknowledged by all in-sync replicas.

        Raises DependencyDown when not all were within the deadline: some may be written, so the
        caller writes all of them again.
        """
        ...


class Consumer(Protocol):
    """The asyncio way to read records, as a member of a group."""

    async def fetch(self, rooms: Mapping[str, int], wait: float) -> Sequence[Incoming]:
        """Records of these topics in the order of `rooms`; waits up to `wait` seconds for the first.

        The batch has at most `rooms[topic]` records once that topic is read. An empty `rooms` reads
        nothing and keeps the membership alive. Raises DependencyDown.
        """
        ...

    def owns(self, record: Incoming) -> bool:
        """Whether the record is still this process's to work on."""
        ...

    def abandon(self, records: Sequence[Incoming]) -> None:
        """Give records back undone: the next owner of their partition reads them again."""
        ...

    async def commit(self, records: Sequence[Incoming]) -> None:
        """Count records as done, and commit what is contiguous. Raises DependencyDown."""
        ...
