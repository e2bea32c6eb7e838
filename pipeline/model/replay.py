"""What a replay works with: which letters are meant, what is known of each, and what becomes of it."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Literal, NamedTuple

from pipeline.model.dead import Disposition
from pipeline.model.event import Channel, Lane
from pipeline.model.ladder import TIERS
from pipeline.model.topics import retry

Fate = Literal[
    "sent",  # handed to the senders, or to the router, again; in a dry run: would be
    "delivered",  # the notification log knows that it arrived
    "replayed",  # another run has sent this very attempt again
    "superseded",  # a later attempt of the same delivery is on its way, or has a letter of its own
    "discarded",  # an operator has decided that it stays dead
    "suppressed",  # the user does not want it (any more), or the address is gone
    "expired",  # too late
    "recalled",  # withdrawn by an operator
    "uncertain",  # it may have gone out, and whoever replays has not said that it may ring twice
    "looping",  # replayed as often as is allowed
    "invalid",  # an event that the router has refused: it keeps that decision
    "unreadable",  # bytes that nobody can read, or of a record that is never sent
]
Kind = Literal["delivery", "event", "hold", "other"]
Status = Literal[
    "frozen",  # chosen and looked at; nothing was sent
    "running",
    "pausing",  # the operator's wish; the run obeys within a second
    "paused",
    "stopped",  # by itself: too many failures, or no answer to the canary
    "aborted",  # for good; what it has sent stays sent
    "done",
]
_TIERS = frozenset(retry(tier.name) for tier in TIERS)
# From each status, what may follow. A run that is found running has lost its process, or is about to.
MOVES: Mapping[Status, frozenset[Status]] = {
    "frozen": frozenset({"running", "aborted"}),
    "running": frozenset({"running", "pausing", "paused", "stopped", "aborted", "done"}),
    "pausing": frozenset({"running", "paused", "stopped", "aborted", "done"}),
    "paused": frozenset({"running", "aborted"}),
    "stopped": frozenset({"running", "aborted"}),
    "aborted": frozenset({"aborted"}),  # again, when the first order was interrupted
    "done": frozenset(),
}


class Sketch(NamedTuple):
    """What a letter's bytes say, as far as its fate depends on it. A tuple, for the reason of `Letter`."""

    kind: Kind
    delivery_id: str  # empty for an event; of a hold the place of what was held: topic/partition/offset
    event_id: str
    user_id: str
    tenant: str
    type: str
    category: str
    channel: Channel | Literal[""]
    lane: Lane
    address_id: str
    template_version: int | None
    attempt: int  # the one that failed; 0 for an event
    expires_at: int | None  # milliseconds since 1970, UTC
    collapse_key: str | None
    required: bool
    event: bytes  # the event's own bytes
    cut: int  # where in the bytes the number of the attempt stands


@dataclass(frozen=True, slots=True, kw_only=True)
class Range:
    """The records [first, end) of a partition."""

    topic: str
    partition: int
    first: int
    end: int

    @property
    def start(self) -> tuple[str, int, int]:
        """Its first record."""
        return self.topic, self.partition, self.first

    @property
    def place(self) -> str:
        """How people name it: by its first record."""
        return "/".join(map(str, self.start))

    def has(self, topic: str, partition: int, offset: int) -> bool:
        """Whether the record is one of them."""
        return (topic, partition) == (self.topic, self.partition) and self.first <= offset < self.end


@dataclass(frozen=True, slots=True, kw_only=True)
class Selection:
    """Which letters are meant: those that every given condition holds for."""

    since: datetime | None = None  # written then or later
    until: datetime | None = None  # written before
    tenant: str | None = None
    user: str | None = None
    type: str | None = None
    channel: Channel | None = None
    provider: str | None = None  # that was asked
    disposition: Disposition | None = None
    error: str | None = None  # fingerprint, or its beginning
    headers: Mapping[str, str] = field(default_factory=dict[str, str])  # by full name
    fields: Mapping[str, str] = field(default_factory=dict[str, str])  # of the event's data, as text
    # Just these deliveries and holds (`Sketch.delivery_id`), where they were lost, and of the router's topics
    # the records in `parts`; None: not chosen so.
    named: frozenset[str] | None = None
    parts: tuple[Range, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Pace:
    """How fast a run goes, and when it stops by itself."""

    rate: float | None = None  # letters sent a second; None: as fast as it can
    ramp: float = 0.0  # seconds in which the rate grows from a tenth to the whole
    canary: int = 0  # letters that are sent first, and waited for
    patience: float = 60.0  # seconds that the canary's answers may take
    stop_at: float | None = None  # percent of failures among the answers, above which it stops


@dataclass(frozen=True, slots=True, kw_only=True)
class Terms:
    """What a run does with its letters."""

    edits: Mapping[str, str] = field(default_factory=dict[str, str])  # field: value, as text
    uncertain: bool = False  # those as well that may have gone out
    most: int = 3  # replays of one delivery
    over: bool = False  # those too that are expired or recalled: whoever takes them writes their end
    words: Literal["now", "decision"] = "now"  # today's version of a type's words, or the one that was pinned


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """One replay, or one decision to leave letters dead: frozen when it is made."""

    run_id: str
    kind: Literal["replay", "discard"]
    who: str
    why: str
    at: datetime
    ranges: tuple[Range, ...]
    selection: Selection
    pace: Pace
    terms: Terms
    status: Status = "frozen"

    @property
    def in_retry(self) -> bool:
        """Whether its letters wait in the retry tiers, which send them too."""
        return self.selection.named is None and any(one.topic in _TIERS for one in self.ranges)


class Claim(NamedTuple):
    """A letter as a run takes it: one delivery's attempt is taken once, whatever letters tell of it."""

    key: str  # id of the delivery, or the letter's place when it is none
    attempt: int  # that failed; 0 when it is no delivery
    range: int  # which of the run's
    offset: int


class Waiting(NamedTuple):
    """A record of a retry tier that is about to leave it."""

    key: str  # id of the delivery, or the record's place when nobody can read it
    attempt: int  # that failed; 0 when nobody can read it
    topic: str
    partition: int
    offset: int


class Standing(NamedTuple):
    """What PostgreSQL knows of one letter's delivery; there is none when it knows nothing remarkable."""

    delivered: bool
    attempt: int  # the latest that the notification log knows; 0: none
    claimed_by: str  # the run that has claimed this very attempt; empty: none
    mine: bool  # and it is the run that asks, for this very letter
    discarded: bool  # and it was a decision to leave it dead
    replays: int  # how often earlier attempts were replayed


@dataclass(frozen=True, slots=True, kw_only=True)
class Answers:
    """What senders have said of the letters that a run has sent most recently."""

    sent: int
    answered: int
    failed: int
