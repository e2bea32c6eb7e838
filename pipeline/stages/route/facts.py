"""What goes into a decision and what comes out of it, as values."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime

from pipeline.model.catalogue import Catalogue
from pipeline.model.decision import Decision, Verdict
from pipeline.model.delivery import Delivery
from pipeline.model.event import Channel, Event
from pipeline.model.hold import Hold
from pipeline.model.profile import Profile
from pipeline.model.recall import Recalls

NO_RECALLS = Recalls()


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """Where a record stood."""

    topic: str
    partition: int
    offset: int

    def __str__(self) -> str:
        return f"{self.topic}/{self.partition}/{self.offset}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Arrival:
    """One record as it arrived: an event, a held event that is released, or bytes that are neither."""

    source: Source
    event: Event | None
    raw: bytes  # of the event
    release_of: Source | None = None  # the hold that ends with this
    defect: str = ""  # why the bytes are no event


@dataclass(frozen=True, slots=True, kw_only=True)
class Decided:
    """The latest decision about an id within the window."""

    source: Source
    verdict: Verdict
    content: bytes = b""  # Event.content; empty when it was not recorded


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """What the decision depends on besides the event itself."""

    decided: Decided | None  # about the same id, if any
    profile: Profile | None
    catalogue: Catalogue
    recalls: Recalls = NO_RECALLS
    # When the event's category reached the user within the last week, by capped channel, oldest first.
    sent: Mapping[Channel, Sequence[datetime]] = field(default_factory=dict[Channel, Sequence[datetime]])


@dataclass(frozen=True, slots=True, kw_only=True)
class Ruling:
    """A decision, and what is written with it."""

    decision: Decision
    deliveries: tuple[Delivery, ...] = ()
    hold: Hold | None = None
