"""What becomes of a delivery in a retry tier. Pure.

The sender has already numbered the attempt that is to come; here it is only carried. It also asks
whether the delivery was recalled, right before it sends: an answer given here would be an older one.
"""

from dataclasses import dataclass
from datetime import datetime

from pipeline.model.delivery import Delivery
from pipeline.model.ladder import TIERS, Tier


@dataclass(frozen=True, slots=True, kw_only=True)
class Wait:
    """Not due: the partition stands still, for in a tier whoever came later is due later."""

    until: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Forward:
    """Due: to its channel again."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Round:
    """The tier's wait is over and the provider asked for more: through this tier as well."""

    tier: Tier


@dataclass(frozen=True, slots=True, kw_only=True)
class Expired:
    """Too late for another attempt."""


Step = Wait | Forward | Round | Expired


def decide(
    delivery: Delivery, written_at: datetime, now: datetime, tier: Tier, tiers: tuple[Tier, ...] = TIERS
) -> Step:
    """What to do at `now` with a delivery that was written to `tier` at `written_at`.

    It is due when the tier's time is over, or earlier when `not_before` says so. What still has to wait
    then goes through the shortest tier that covers the rest, the longest one if none does.
    """
    if delivery.expires_at is not None and delivery.expires_at <= now:
        return Expired()
    due = written_at + tier.delay
    if delivery.not_before is not None:
        due = min(due, delivery.not_before)
    if now < due:
        return Wait(until=due)
    if delivery.not_before is None or delivery.not_before <= now:
        return Forward()
    rest = delivery.not_before - now
    return Round(tier=next((one for one in tiers if one.delay >= rest), tiers[-1]))
