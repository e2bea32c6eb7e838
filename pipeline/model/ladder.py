"""The retry ladder: where a delivery goes after an attempt that may be repeated.

Within a tier all records wait equally long, or the head of the line would hold the rest back.
So a provider's Retry-After chooses the tier; it never makes a wait of its own.
"""

from dataclasses import dataclass
from datetime import datetime, timedelta


@dataclass(frozen=True, slots=True, kw_only=True)
class Tier:
    """One retry topic."""

    name: str  # part of the topic's name
    delay: timedelta


@dataclass(frozen=True, slots=True, kw_only=True)
class Climb:
    """Try again: write the delivery to this tier."""

    tier: Tier
    not_before: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class GiveUp:
    """The ladder ends here."""

    reason: str


TIERS: tuple[Tier, ...] = (
    Tier(name="10s", delay=timedelta(seconds=10)),
    Tier(name="1m", delay=timedelta(minutes=1)),
    Tier(name="10m", delay=timedelta(minutes=10)),
    Tier(name="1h", delay=timedelta(hours=1)),
    Tier(name="6h", delay=timedelta(hours=6)),
)


def scaled(factor: float) -> tuple[Tier, ...]:
    """The same ladder with every delay multiplied by `factor`, for demos and tests."""
    return tuple(Tier(name=tier.name, delay=tier.delay * factor) for tier in TIERS)


def climb(
    attempt: int,
    now: datetime,
    *,
    wait: timedelta | None = None,
    expires_at: datetime | None = None,
    tiers: tuple[Tier, ...] = TIERS,
) -> Climb | GiveUp:
    """Where to go after attempt number `attempt` (from 1) failed at `now`.

    `wait` is the provider's Retry-After. A wait longer than the last tier is walked in several
    rounds of it: `not_before` holds the whole wait, and the retry stage sends the record round again.
    """
    if attempt > len(tiers):
        return GiveUp(reason="exhausted")
    least = tiers[attempt - 1].delay
    wanted = max(least, wait or least)
    tier = next((t for t in tiers if t.delay >= wanted), tiers[-1])
    not_before = now + max(tier.delay, wanted)
    if expires_at is not None and not_before >= expires_at:
        return GiveUp(reason="expired")
    return Climb(tier=tier, not_before=not_before)
