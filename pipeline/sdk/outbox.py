"""The outbox door: an event that is accepted if, and only if, the caller's transaction commits."""

from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache

from pipeline.adapters.postgres.outbox import insert
from pipeline.adapters.postgres.pool import Connection
from pipeline.adapters.wire.codec import Wire
from pipeline.adapters.wire.ids import LockFile
from pipeline.model.catalogue import Catalogue
from pipeline.model.errors import NotInTransaction
from pipeline.model.event import Event
from pipeline.sdk.door import Encoder, prepare


@dataclass(frozen=True, slots=True, kw_only=True)
class Queued:
    """What `enqueue` gives back. It counts once the caller's transaction has committed."""

    event_id: str
    outbox_id: str
    topic: str
    duplicate: bool  # the same event waits in the outbox already; no second one was written


async def enqueue(
    connection: Connection, event: Event, *, catalogue: Catalogue, encoder: Encoder | None = None
) -> Queued:
    """Write an event in the open transaction of `connection` (an asyncpg connection, or one of a pool).

    One INSERT; everything that can be refused is refused before it. `encoder` is the offline one of
    the lock file when none is given. Raises NotInTransaction, InvalidEvent, PayloadTooLarge,
    DependencyDown. The transaction is lost after DependencyDown: roll back, and do it all again.
    """
    if not connection.is_in_transaction():
        raise NotInTransaction(
            "outbox.enqueue writes within your transaction, so that both happen or none: "
            "call it inside `async with connection.transaction():`"
        )
    now = datetime.now(UTC)  # noqa: TID251  # the caller's edge: here the time comes in
    record = prepare(event, catalogue, encoder or _offline(), now)
    outbox_id, new = await insert(connection, event, record)
    return Queued(event_id=event.event_id, outbox_id=outbox_id, topic=record.topic, duplicate=not new)


@cache
def _offline() -> Encoder:
    return Wire(LockFile())
