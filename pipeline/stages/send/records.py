"""What is written down after an attempt: the outcome, and the way on to a retry tier or the dead."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime

from pipeline.model.breaker import Order, Standing
from pipeline.model.dead import AWAITS_RECEIPT, Cause, dead_letter, replayed
from pipeline.model.delivery import Delivery
from pipeline.model.event import Channel, user_key
from pipeline.model.ladder import Climb
from pipeline.model.outcome import Outcome
from pipeline.model.record import Incoming, Outgoing
from pipeline.model.topics import OUTCOMES, STANDINGS, retry
from pipeline.ports import Codec
from pipeline.stages.send.decide import Verdict

# As the metric tells it: the higher, the less goes.
LEVELS: Mapping[Standing, int] = {"closed": 0, "half_open": 1, "open": 2, "paused": 3}


@dataclass(frozen=True, slots=True, kw_only=True)
class Settled:
    """A record whose attempt is over: once `written` is acknowledged, its offset counts as done."""

    source: Incoming
    written: tuple[Outgoing, ...]
    delivery: Delivery | None = None  # None: the record could not be read
    verdict: Verdict | None = None


def group(channel: Channel) -> str:
    """The consumer group of a channel's senders."""
    return f"everpost.send.{channel}"


def settled(
    wire: Codec,
    source: Incoming,
    delivery: Delivery,
    verdict: Verdict,
    now: datetime,
    *,
    provider: str = "",
    seconds: float = 0.0,
) -> Settled:
    """The outcome, and whatever the verdict asks for beside it. Raises DependencyDown."""
    key = user_key(delivery.tenant, delivery.user_id)
    outcome = to_outcome(source, delivery, verdict, now, provider=provider, seconds=seconds)
    written = [Outgoing(topic=OUTCOMES, key=key, value=wire.encode(outcome))]
    if verdict.climb is not None:
        value = wire.encode(next_attempt(delivery, verdict, verdict.climb, now, provider))
        topic = retry(verdict.climb.tier.name)
        headers = (*replayed(source.headers), AWAITS_RECEIPT) if verdict.awaits else replayed(source.headers)
        written.append(Outgoing(topic=topic, key=key, value=value, headers=headers))
    if verdict.disposition is not None:
        cause = Cause(
            disposition=verdict.disposition,
            message=f"{verdict.reason} ({verdict.code})" if verdict.code else verdict.reason,
            attempts=delivery.attempt,
            provider=provider,
            code=verdict.code,
            first_at=delivery.first_attempt_at or now,
            last_at=now,
        )
        written.append(dead_letter(source, cause, group=group(delivery.channel), stage="send"))
    return Settled(source=source, written=tuple(written), delivery=delivery, verdict=verdict)


def unreadable(source: Incoming, channel: Channel, error: Exception) -> Settled:
    """A record that is no delivery: kept as it came, and the partition goes on."""
    cause = Cause(disposition="unreadable", message=str(error), error=type(error).__qualname__)
    letter = dead_letter(source, cause, group=group(channel), stage="send")
    return Settled(source=source, written=(letter,))


def next_attempt(
    delivery: Delivery, verdict: Verdict, climb: Climb, now: datetime, provider: str
) -> Delivery:
    """The delivery as it enters a retry tier: numbered as the attempt that is to come.

    A provider that may have taken it stands in it from here on: no other one may send it.
    """
    return replace(
        delivery,
        provider=provider if verdict.result == "uncertain" else delivery.provider,
        attempt=delivery.attempt + 1 if verdict.counted else delivery.attempt,
        first_attempt_at=delivery.first_attempt_at or now,
        not_before=climb.not_before,
    )


def to_outcome(
    source: Incoming, delivery: Delivery, verdict: Verdict, now: datetime, *, provider: str, seconds: float
) -> Outcome:
    """The record of one attempt. `provider` is empty when none was asked."""
    return Outcome(
        delivery_id=delivery.delivery_id,
        event_id=delivery.event_id,
        user_id=delivery.user_id,
        tenant=delivery.tenant,
        channel=delivery.channel,
        provider=provider,
        address_id=delivery.address_id,
        attempt=delivery.attempt,
        outcome=verdict.result,
        state=verdict.state,
        reason=verdict.reason,
        code=verdict.code,
        provider_id=verdict.provider_id,
        tier="" if verdict.climb is None else verdict.climb.tier.name,
        not_before=None if verdict.climb is None else verdict.climb.not_before,
        latency_ms=round(seconds * 1000),
        source_topic=source.topic,
        source_partition=source.partition,
        source_offset=source.offset,
        at=now,
    )


def turned(
    channel: Channel,
    provider: str,
    instance: str,
    state: Standing,
    order: Order | None,
    reason: str,
    at: datetime,
) -> Outgoing:
    """The record that a sender process's way to its provider has turned, as JSON."""
    value = {
        "channel": channel,
        "provider": provider,
        "instance": instance,
        "state": state,
        "order": order,
        "reason": reason,
        "at": at.isoformat(),
    }
    return Outgoing(topic=STANDINGS, key=f"{channel}/{provider}".encode(), value=json.dumps(value).encode())
