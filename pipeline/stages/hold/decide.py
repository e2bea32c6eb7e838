"""When a hold is released, and how long the stage may rest until then. Pure."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Protocol

from pipeline.model.dead import Cause, dead_letter
from pipeline.model.errors import Unreadable
from pipeline.model.event import LANES, user_key
from pipeline.model.hold import Hold, Timer
from pipeline.model.record import Incoming, Outgoing
from pipeline.model.topics import RELEASED, events

GROUP = "everpost.hold"
LONGEST_NAP = 0.5  # seconds between two looks at the clock: it may have jumped, or an earlier hold have come
_SOURCES = frozenset({*map(events, LANES), RELEASED})


class Decoder(Protocol):
    """The half of the port `Codec` that is needed here."""

    def decode(self, cls: type[Hold], value: bytes | None) -> Hold:
        """The record in the bytes. Raises Unreadable."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Read:
    """A batch of notification.holds, read."""

    timers: list[Timer] = field(default_factory=list[Timer])
    dead: list[Outgoing] = field(default_factory=list[Outgoing])  # for notification.dead


def read(batch: Sequence[Incoming], decoder: Decoder, now: datetime) -> Read:
    """The timers of a batch; a record that is no hold of its partition becomes a dead letter."""
    found = Read()
    for record in batch:
        try:
            found.timers.append(to_timer(_hold(record, decoder), record, now))
        except Unreadable as error:
            cause = Cause(disposition="unreadable", message=str(error), error=type(error).__name__)
            found.dead.append(dead_letter(record, cause, group=GROUP, stage="hold"))
    return found


def _hold(record: Incoming, decoder: Decoder) -> Hold:
    hold = decoder.decode(Hold, record.value)
    if hold.source_topic not in _SOURCES or hold.source_partition != record.partition:
        # Released into that partition it would meet a router that knows nothing of the event.
        where = f"{hold.source_topic}[{hold.source_partition}]"
        raise Unreadable(f"a hold of {where} in partition {record.partition}")
    return hold


def to_timer(hold: Hold, record: Incoming, now: datetime) -> Timer:
    """The timer of a hold that is stored at `now`: it wakes when due, or at its expiry if that is sooner.

    A release that the router held again had come too early by the router's clock. Then its wait counts
    from now on, by the clock that wakes it: two clocks that differ by an hour would otherwise send one
    event to and fro for an hour.
    """
    wake_at = hold.due_at
    if hold.source_topic == RELEASED:
        wake_at = max(wake_at, now + (hold.due_at - hold.held_at))
    return Timer(
        topic=hold.source_topic,
        partition=hold.source_partition,
        offset=hold.source_offset,
        wake_at=min(wake_at, hold.expires_at),
        key=user_key(hold.tenant, hold.user_id),
        value=record.value or b"",
    )


def to_release(timer: Timer) -> Outgoing:
    """The hold's own bytes for the router that held it: it owns this partition number."""
    return Outgoing(topic=RELEASED, key=timer.key, value=timer.value, partition=timer.partition)


def nap(next_at: datetime | None, now: datetime) -> float:
    """Seconds to rest when nothing more is due: until the next timer, at most LONGEST_NAP.

    A timer that is due all the same is in another process's hands.
    """
    if next_at is None or next_at <= now:
        return LONGEST_NAP
    return min(LONGEST_NAP, (next_at - now).total_seconds())
