"""The decision: what the router wrote down about one event.

Reasons are a closed list, so that a silence can be counted and looked up.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Literal

from pipeline.model.event import Channel, Lane

Verdict = Literal["deliver", "suppressed", "duplicate", "rejected", "expired", "recalled", "held"]
Reason = Literal[
    "",
    "unreadable",  # the bytes are no event: kept in notification.dead
    "invalid",  # a field or a variable is wrong: kept in notification.dead
    "duplicate",  # an earlier record decided the same id
    "id_reused",  # an earlier record decided the same id, with other content: kept in notification.dead
    "expired",
    "recalled",  # an operator withdrew it
    "due",  # held until its deliver_at
    "unknown_user",
    "opted_out",  # the global switch, or every channel's preference
    "no_address",  # allowed, but nowhere to send to
    "no_channel",  # the type and the override leave no channel
    "suppression_list",  # every address has bounced for good, or its owner has complained
    "quiet_hours",  # held until the user's window opens
    "capped",  # the user has had enough of the category: suppressed, or held until a slot opens
    "no_template",  # the pinned version has no words in any language: kept in notification.dead
]


@dataclass(frozen=True, slots=True, kw_only=True)
class Gate:
    """One gate that was asked."""

    gate: str
    passed: bool
    evidence: str = ""  # no addresses


@dataclass(frozen=True, slots=True, kw_only=True)
class ChannelVerdict:
    """What was decided for one channel."""

    channel: Channel
    allowed: bool
    reason: str = ""  # which level of the preferences let it pass, or which gate stopped it


@dataclass(frozen=True, slots=True, kw_only=True)
class Planned:
    """A delivery that was written in the same transaction."""

    delivery_id: str
    channel: Channel
    address_id: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """Mirrors `schemas/decision.avsc`, field by field."""

    event_id: str
    user_id: str
    tenant: str
    verdict: Verdict
    reason: Reason = ""
    gates: tuple[Gate, ...] = ()
    channels: tuple[ChannelVerdict, ...] = ()
    deliveries: tuple[Planned, ...] = ()
    type: str = ""
    lane: Lane = "normal"
    category: str = ""
    profile_version: int | None = None
    template_version: int | None = None
    locale: str = ""
    counters: Mapping[str, int] = field(default_factory=dict[str, int])
    source_topic: str
    source_partition: int
    source_offset: int
    decided_at: datetime
    content: bytes = b""  # Event.content; empty in records that are older than the field
    release_of: str = ""  # topic/partition/offset of the hold that ended with this; empty for an event
    due_at: datetime | None = None  # until when it is held, UTC
    collapse_key: str | None = None  # by which a recall may name it

    @property
    def place(self) -> str:
        """The record that was decided, as `release_of` names it."""
        return f"{self.source_topic}/{self.source_partition}/{self.source_offset}"
