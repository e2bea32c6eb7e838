"""The engagement: receipts, bounces, opens and clicks that came back after a delivery."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Literal

from pipeline.model.event import Channel

Kind = Literal["unknown", "receipt", "bounce", "complaint", "open", "click", "unsubscribe"]
Actor = Literal["unknown", "human", "proxy", "machine"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Engagement:
    """Mirrors `schemas/engagement.avsc`, field by field."""

    engagement_id: str
    delivery_id: str
    event_id: str = ""
    user_id: str
    tenant: str
    channel: Channel
    kind: Kind
    facts: Mapping[str, str] = field(default_factory=dict[str, str])
    verdict: Actor = "unknown"
    reason: str = ""
    at: datetime
