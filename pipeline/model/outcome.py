"""The outcome: what one attempt to send came to, and the delivery's state after it."""

from dataclasses import dataclass
from datetime import datetime
from typing import Literal

from pipeline.model.event import Channel

Result = Literal[
    "delivered",  # the provider took it; only a receipt proves that it arrived
    "permanent",  # this message can never go out
    "invalid_address",  # the token, number, mailbox or subscription is dead
    "transient",  # not processed, may work later
    "throttled",  # the provider asks for less
    "uncertain",  # the request was written and the answer is lost
    "channel_fault",  # credential, credit or configuration of the whole channel
    "expired",  # not attempted: too late
    "suppressed",  # not attempted: the user has opted out since the decision
    "recalled",  # not attempted: withdrawn by an operator
    "unrenderable",  # not attempted: template or event cannot be turned into words
]
State = Literal["in_flight", "delivered", "dead", "expired", "suppressed", "recalled"]
FINAL: frozenset[State] = frozenset({"delivered", "dead", "expired", "suppressed", "recalled"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """Mirrors `schemas/outcome.avsc`, field by field."""

    delivery_id: str
    event_id: str
    user_id: str
    tenant: str
    channel: Channel
    provider: str = ""
    address_id: str = ""
    attempt: int
    outcome: Result
    state: State
    reason: str = ""
    code: str = ""
    provider_id: str = ""
    tier: str = ""
    not_before: datetime | None = None
    latency_ms: int = 0
    source_topic: str
    source_partition: int
    source_offset: int
    at: datetime
