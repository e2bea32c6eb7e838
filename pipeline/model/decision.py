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
    "expired",
    "unknown_user",
    "opted_out",  # the global switch, or every channel's preference
    "no_address",  # allowed, but nowhere to send to
    "no_channel",  # the type and the override leave no channel
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
    reason: str = ""


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
