"""What may be sent, and what follows from a provider's answer. Pure.

The sender counts attempts: a delivery that goes to a retry tier leaves with the number of the attempt
that is to come, and the retry stage only carries it.
"""

from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import assert_never

from connectors.contract import (
    Accepted,
    ChannelFault,
    InvalidAddress,
    Outcome,
    Permanent,
    Throttled,
    Transient,
    Uncertain,
)
from pipeline.model.catalogue import Category
from pipeline.model.dead import Disposition
from pipeline.model.delivery import Delivery
from pipeline.model.event import Channel, Event
from pipeline.model.ladder import TIERS, Climb, GiveUp, Tier, climb
from pipeline.model.outcome import Result, State
from pipeline.model.preferences import allows
from pipeline.model.profile import Profile
from pipeline.model.recall import Recalls

# The router has just read the profile; after this much, or for a second attempt, it is read again.
_FRESH = timedelta(seconds=5)
# A provider that asks for more is obeyed by the ladder's later rungs, not by one wait.
_LONGEST_WAIT = timedelta(hours=24)
# No handle by which a repeat could be recognised: what may have gone out is not sent again by itself.
_NEVER_TWICE: frozenset[Channel] = frozenset({"sms"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """What an attempt came to. In flight if and only if it climbs; dead if and only if it has a disposition."""

    result: Result
    state: State
    reason: str = ""
    code: str = ""
    provider_id: str = ""
    climb: Climb | None = None
    disposition: Disposition | None = None
    counted: bool = True  # as an attempt: the next one has the next number
    awaits: bool = False  # a receipt: when it comes back, that is asked for first


@dataclass(frozen=True, slots=True, kw_only=True)
class Pause:
    """The whole channel is at fault: this delivery waits, and its attempt is not counted."""

    reason: str
    code: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Current:
    """A delivery that may still be sent, to where the user is now."""

    delivery: Delivery
    registered_at: datetime | None


def too_late(delivery: Delivery, now: datetime) -> Verdict | None:
    """The gate before every attempt: expiry."""
    if delivery.expires_at is not None and delivery.expires_at <= now:
        return Verdict(result="expired", state="expired", reason=f"since {delivery.expires_at.isoformat()}")
    return None


def recalled(delivery: Delivery, event: Event, recalls: Recalls) -> Verdict | None:
    """The last gate before every attempt: an operator may have withdrawn it meanwhile."""
    found = recalls.match(
        tenant=delivery.tenant,
        event_id=delivery.event_id,
        collapse_key=delivery.collapse_key,
        type=delivery.type,
        template_version=delivery.template_version,
        created_at=event.created_at,
    )
    return found and Verdict(result="recalled", state="recalled", reason=found.evidence())


def is_stale(delivery: Delivery, now: datetime) -> bool:
    """Whether consent and address must be asked for again."""
    return delivery.attempt > 1 or now - delivery.decided_at > _FRESH


def still_wanted(
    delivery: Delivery, profile: Profile | None, category: Category, *, as_of_decision: bool = False
) -> Current | Verdict:
    """Consent and address once more, by the profile as it is now.

    `as_of_decision`: an operator replays what was decided, so the wishes of that moment count. The global
    switch and the suppression list hold all the same: nobody may be written to against these.
    """
    if profile is None:
        return Verdict(result="suppressed", state="suppressed", reason="the user is unknown by now")
    answer = allows(profile, category, delivery.channel)
    if not answer.allowed and not (as_of_decision and profile.enabled):
        return Verdict(result="suppressed", state="suppressed", reason=answer.reason)
    for address in profile.addresses:
        if address.address_id == delivery.address_id:
            if address.suppressed:
                reason = f"suppression list: {address.suppressed}"
                return Verdict(result="suppressed", state="suppressed", reason=reason)
            same = (delivery.address, delivery.profile_version) == (address.value, profile.version)
            if not same:
                delivery = replace(delivery, address=address.value, profile_version=profile.version)
            return Current(delivery=delivery, registered_at=address.registered_at)
    return Verdict(result="suppressed", state="suppressed", reason="the address is no longer active")


def is_doubtful(outcome: Outcome, current: Current) -> bool:
    """Whether the address may have been registered again since it was dead: a fresh attempt does not know."""
    return isinstance(outcome, InvalidAddress) and outcome.since is not None and current.registered_at is None


def confirmed(outcome: Outcome, delivery: Delivery, profile: Profile | None) -> Outcome:
    """A dead address by the profile as it is now: one that was registered since is kept.

    Apple's documentation of status 410: stop only if the device has not registered after the timestamp.
    """
    if profile is None or not isinstance(outcome, InvalidAddress) or outcome.since is None:
        return outcome
    for address in profile.addresses:
        if address.address_id == delivery.address_id and address.registered_at >= outcome.since:
            why = f"{outcome.reason}, but the device has registered since: address kept"
            return Permanent(reason=why, code=outcome.code)
    return outcome


def after(  # noqa: PLR0911 - one answer for each outcome
    delivery: Delivery, outcome: Outcome, now: datetime, tiers: tuple[Tier, ...] = TIERS
) -> Verdict | Pause:
    """What follows from the answer to attempt number `delivery.attempt`."""
    match outcome:
        case Accepted(provider_id=provider_id):
            return Verdict(result="delivered", state="delivered", provider_id=provider_id)
        case Permanent(reason=why, code=code):
            return _dead("permanent", "permanent", why, code)
        case InvalidAddress(reason=why, code=code):
            return _dead("invalid_address", "invalid_address", why, code)
        case Transient(reason=why, code=code, retry_after=wait):
            return _again(_climb(delivery, now, wait, tiers), "transient", why, code)
        case Throttled(reason=why, code=code, retry_after=wait):
            return _again(_climb(delivery, now, wait, tiers), "throttled", why, code)
        case Uncertain(reason=why, code=code):
            if delivery.channel in _NEVER_TWICE:
                return _dead("uncertain", "uncertain", why, code)
            return _again(_climb(delivery, now, None, tiers), "uncertain", why, code)
        case ChannelFault(reason=why, code=code):
            return Pause(reason=why, code=code)
        case _:
            assert_never(outcome)


def _climb(
    delivery: Delivery, now: datetime, wait: timedelta | None, tiers: tuple[Tier, ...]
) -> Climb | GiveUp:
    asked = None if wait is None else min(wait, _LONGEST_WAIT)
    return climb(delivery.attempt, now, wait=asked, expires_at=delivery.expires_at, tiers=tiers)


def _again(step: Climb | GiveUp, result: Result, reason: str, code: str) -> Verdict:
    match step:
        case Climb():
            return Verdict(result=result, state="in_flight", reason=reason, code=code, climb=step)
        case GiveUp(reason="expired"):
            return Verdict(result=result, state="expired", reason=reason, code=code)
        case GiveUp():
            return _dead(result, "exhausted", reason, code)
        case _:
            assert_never(step)


def _dead(result: Result, disposition: Disposition, reason: str, code: str) -> Verdict:
    return Verdict(result=result, state="dead", reason=reason, code=code, disposition=disposition)


def parked(delivery: Delivery, provider: str, now: datetime, tiers: tuple[Tier, ...] = TIERS) -> Verdict:
    """The provider that may have taken it is unwell, while others go on: back to where it came from."""
    came = max(1, delivery.attempt - 1)
    step = climb(came, now, expires_at=delivery.expires_at, tiers=tiers)
    reason = f"waits for {provider}, which alone may send it: it may have taken it before"
    return replace(_again(step, "transient", reason, ""), counted=False)


def astray(delivery: Delivery, provider: str) -> Verdict:
    """Only this provider may send it, and it does not serve the channel."""
    reason = f"meant for {provider} alone, which does not serve {delivery.channel}: see EVERPOST_PROVIDERS"
    return _dead("uncertain", "uncertain", reason, "")


def unrenderable(reason: str) -> Verdict:
    """No words came of template and event; a replay may, once the template is mended."""
    return _dead("unrenderable", "unrenderable", reason, "")
