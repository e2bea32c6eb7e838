"""What becomes of an event: the gates, in their order, as one pure function.

`route(arrival, facts, now)` asks gate after gate. Each answers with its evidence; the first that does
not let the event pass decides the verdict, and the record names every gate that was asked.

    readable      the bytes are an event                     → rejected(unreadable)
    valid         type, identity and variables are right     → rejected(invalid)
    duplicate     no earlier record decided the same id      → duplicate
    expired       there is still time                        → expired
    recalled      (the router's issue) not withdrawn
    due           (the router's issue) deliver_at has come
    known         the user has a profile                     → suppressed(unknown_user)
    preference    at least one channel is wanted             → suppressed(opted_out | no_channel)
    suppression   (the router's issue) no hard bounce or complaint
    quiet hours   (the router's issue) the user is awake
    frequency     (the router's issue) the cap is not reached
    address       a wanted channel has somewhere to send to  → suppressed(no_address)

No clock, no client, no logger: time and facts come in as arguments.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime

from pipeline.model.catalogue import Catalogue, EventType, problems
from pipeline.model.decision import ChannelVerdict, Decision, Gate, Planned, Reason, Verdict
from pipeline.model.delivery import Delivery, delivery_id
from pipeline.model.event import Event
from pipeline.model.preferences import allows
from pipeline.model.profile import Address, Profile
from pipeline.model.template import choose_locale


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """Where a record of notification.events.* stood."""

    topic: str
    partition: int
    offset: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Arrival:
    """One record as it arrived: an event, or bytes that are none."""

    source: Source
    event: Event | None
    raw: bytes
    defect: str = ""  # why the bytes are no event


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """What the decision depends on besides the event itself."""

    decided_by: Source | None  # the record that decided the same id before, if any
    profile: Profile | None
    catalogue: Catalogue


@dataclass(frozen=True, slots=True, kw_only=True)
class Ruling:
    """A decision and the deliveries that it plans."""

    decision: Decision
    deliveries: tuple[Delivery, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class _Stop:
    """A gate that does not let the event pass."""

    verdict: Verdict
    reason: Reason
    evidence: str


_LONGEST = 2_000  # characters of evidence: an invalid event of 1 MB could name 1 MB of wrong fields
_Answer = str | _Stop  # the evidence of a pass, or the stop
_Gate = Callable[[Event, Facts, datetime], _Answer]


def route(arrival: Arrival, facts: Facts, now: datetime) -> Ruling:
    """Decide about one record of notification.events.*; a value for every input, never an exception."""
    event = arrival.event
    if event is None:
        stop = _Stop(verdict="rejected", reason="unreadable", evidence=arrival.defect)
        return Ruling(decision=_stopped(arrival, facts, (), "readable", stop, now))
    passed = [Gate(gate="readable", passed=True)]
    for name, gate in _GATES.items():
        match gate(event, facts, now):
            case _Stop() as stop:
                return Ruling(decision=_stopped(arrival, facts, tuple(passed), name, stop, now))
            case evidence:
                passed.append(Gate(gate=name, passed=True, evidence=evidence))
    return _fan_out(arrival, event, facts, tuple(passed), now)


def _valid(event: Event, facts: Facts, now: datetime) -> _Answer:
    # A passed expiry is the business of its own gate: at the door it is a mistake, here it is lateness.
    found = problems(replace(event, expires_at=None), facts.catalogue, now)
    if not found:
        return event.type
    return _Stop(verdict="rejected", reason="invalid", evidence=" | ".join(map(str, found)))


def _fresh(_event: Event, facts: Facts, _now: datetime) -> _Answer:
    first = facts.decided_by
    if first is None:
        return ""
    where = f"decided at {first.topic}/{first.partition}/{first.offset}"
    return _Stop(verdict="duplicate", reason="duplicate", evidence=where)


def _in_time(event: Event, facts: Facts, now: datetime) -> _Answer:
    end = expiry(event, facts.catalogue[event.type])
    if now < end:
        return f"until {end.isoformat()}"
    return _Stop(verdict="expired", reason="expired", evidence=f"since {end.isoformat()}")


def _known(_event: Event, facts: Facts, _now: datetime) -> _Answer:
    if facts.profile is None:
        return _Stop(verdict="suppressed", reason="unknown_user", evidence="no profile")
    return f"profile version {facts.profile.version}"


def _wanted(event: Event, facts: Facts, _now: datetime) -> _Answer:
    answers = channel_verdicts(event, facts)
    if not answers:
        return _Stop(
            verdict="suppressed", reason="no_channel", evidence="the type and the override share none"
        )
    evidence = "; ".join(f"{a.channel}: {a.reason}" for a in answers)
    if any(answer.allowed for answer in answers):
        return evidence
    return _Stop(verdict="suppressed", reason="opted_out", evidence=evidence)


def _reachable(event: Event, facts: Facts, _now: datetime) -> _Answer:
    found = _targets(event, facts)
    if not found:
        allowed = ", ".join(a.channel for a in channel_verdicts(event, facts) if a.allowed)
        return _Stop(verdict="suppressed", reason="no_address", evidence=f"no active address for {allowed}")
    return f"{len(found)} addresses"


_GATES: Mapping[str, _Gate] = {
    "valid": _valid,
    "duplicate": _fresh,
    "expired": _in_time,
    # recalled, due: the router's issue puts them here
    "known": _known,
    "preference": _wanted,
    # suppression list, quiet hours, frequency cap: the router's issue puts them here
    "address": _reachable,
}


def expiry(event: Event, kind: EventType) -> datetime:
    """From when on the event is not sent any more: its own word, else the type's time to live."""
    return event.expires_at or event.created_at + kind.time_to_live


def channel_verdicts(event: Event, facts: Facts) -> tuple[ChannelVerdict, ...]:
    """One verdict per channel of the event; empty when the user is unknown."""
    kind, profile = facts.catalogue[event.type], facts.profile
    if profile is None:
        return ()
    chosen = kind.channels if event.channels is None else event.channels
    verdicts: list[ChannelVerdict] = []
    for channel in chosen:
        if channel in kind.channels:
            answer = allows(profile, kind.category, channel)
            verdicts.append(ChannelVerdict(channel=channel, allowed=answer.allowed, reason=answer.reason))
    return tuple(verdicts)


def _targets(event: Event, facts: Facts) -> list[Address]:
    assert facts.profile is not None, "asked after the gate 'known'"
    allowed = {answer.channel for answer in channel_verdicts(event, facts) if answer.allowed}
    return [address for address in facts.profile.addresses if address.channel in allowed]


def _stopped(
    arrival: Arrival, facts: Facts, passed: tuple[Gate, ...], gate: str, stop: _Stop, now: datetime
) -> Decision:
    gates = (*passed, Gate(gate=gate, passed=False, evidence=stop.evidence[:_LONGEST]))
    decision = _decision(arrival, facts, stop.verdict, gates, now)
    return replace(decision, reason=stop.reason)


def _decision(
    arrival: Arrival, facts: Facts, verdict: Verdict, gates: tuple[Gate, ...], now: datetime
) -> Decision:
    event, source = arrival.event, arrival.source
    kind = facts.catalogue.get(event.type) if event else None
    return Decision(
        event_id=event.event_id if event else "",
        user_id=event.user_id if event else "",
        tenant=event.tenant if event else "",
        verdict=verdict,
        gates=gates,
        channels=channel_verdicts(event, facts) if event and kind else (),
        type=event.type if event else "",
        lane=event.priority if event else "normal",
        category=kind.category.name if kind else "",
        profile_version=facts.profile.version if facts.profile else None,
        source_topic=source.topic,
        source_partition=source.partition,
        source_offset=source.offset,
        decided_at=now,
    )


def _fan_out(arrival: Arrival, event: Event, facts: Facts, passed: tuple[Gate, ...], now: datetime) -> Ruling:
    kind, profile = facts.catalogue[event.type], facts.profile
    assert profile is not None, "asked after the gate 'known'"
    locale = choose_locale(event.locale or profile.locale, kind.locales)
    deliveries = tuple(
        Delivery(
            delivery_id=delivery_id(
                event.tenant, event.user_id, event.event_id, address.channel, address.address_id
            ),
            event_id=event.event_id,
            user_id=event.user_id,
            tenant=event.tenant,
            type=event.type,
            category=kind.category.name,
            channel=address.channel,
            lane=event.priority,
            address_id=address.address_id,
            address=address.value,
            locale=locale,
            template_version=kind.template_version,
            expires_at=expiry(event, kind),
            collapse_key=event.collapse_key,
            required=kind.category.required,
            profile_version=profile.version,
            decided_at=now,
            traceparent=event.traceparent,
            event=arrival.raw,
        )
        for address in _targets(event, facts)
    )
    decision = replace(
        _decision(arrival, facts, "deliver", passed, now),
        deliveries=tuple(
            Planned(delivery_id=d.delivery_id, channel=d.channel, address_id=d.address_id) for d in deliveries
        ),
        template_version=kind.template_version,
        locale=locale,
    )
    return Ruling(decision=decision, deliveries=deliveries)
