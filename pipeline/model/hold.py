"""The hold: an event that waits for its time, from the router to the timers and back."""

from dataclasses import dataclass
from datetime import datetime
from typing import Literal

HoldReason = Literal["due", "quiet_hours", "capped"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Hold:
    """Mirrors `schemas/hold.avsc`, field by field.

    The router writes it to notification.holds in the transaction of its decision; the timers write the
    same bytes to notification.released, into the same partition number, when it is due. The source is
    its identity: the router lets a release pass only if the latest decision about the event is this
    hold, so one that comes twice is a duplicate.
    """

    event_id: str
    user_id: str
    tenant: str
    reason: HoldReason
    due_at: datetime  # not before, UTC
    expires_at: datetime  # released then at the latest, so that its expiry is decided
    source_topic: str  # of the record that was held: an event, or a release that was held again
    source_partition: int
    source_offset: int
    held_at: datetime
    event: bytes  # the event's original bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Timer:
    """A hold among the timers: its record's own bytes, and when they are wanted again."""

    topic: str  # with partition and offset: the record that was held, which is the hold's identity
    partition: int  # of that record, of the hold, and of its release
    offset: int
    wake_at: datetime
    key: bytes
    value: bytes
