"""What becomes of an event: the gates, in their order, as one pure function.

`route(arrival, facts, now)` asks gate after gate. Each answers with its evidence; the first that does
not let the event pass decides the verdict, and the record names every gate that was asked.

    readable     the bytes are an event                        → rejected(unreadable)
    valid        type, identity and variables are right        → rejected(invalid)
    duplicate    no earlier record decided the same id         → duplicate, rejected(id_reused)
    expired      there is still time                           → expired
    recalled     no operator has withdrawn it                  → recalled
    due          deliver_at has come                           → held(due)
    known        the user has a profile                        → suppressed(unknown_user)
    preference   at least one channel is wanted                → suppressed(opted_out | no_channel)
    address      a wanted channel has somewhere to send to     → suppressed(no_address)
    suppression  no hard bounce, no complaint                  → suppressed(suppression_list)
    quiet hours  the user is awake, or it can't wait           → held(quiet_hours)
    frequency    the caps are not reached                      → suppressed(capped), held(capped)
    choice       all channels that are left, or the first
    template     there are words                               → rejected(no_template)

What would be held beyond its expiry is expired at once. A release is decided again from the first gate
on, with the facts of that moment. No clock, no client, no logger: time and facts come in as arguments.
"""

from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime

from pipeline.model import decision as record
from pipeline.model.decision import Decision, Planned, Verdict
from pipeline.model.delivery import Delivery
from pipeline.model.hold import Hold, HoldReason
from pipeline.stages.route import channels, gates
from pipeline.stages.route.case import Case, Gate, Stop
from pipeline.stages.route.facts import Arrival, Facts, Ruling
from pipeline.stages.route.fan_out import fan_out

_LONGEST = 2_000  # characters of evidence: an invalid event of 1 MB could name 1 MB of wrong fields
_READABLE = record.Gate(gate="readable", passed=True)

GATES: Mapping[str, Gate] = {
    "valid": gates.valid,
    "duplicate": gates.fresh,
    "expired": gates.in_time,
    "recalled": gates.not_recalled,
    "due": gates.due,
    "known": gates.known,
    "preference": channels.wanted,
    "address": channels.reachable,
    "suppression": channels.unsuppressed,
    "quiet hours": channels.awake,
    "frequency": channels.uncapped,
    "choice": channels.chosen,
    "template": channels.worded,
}
_HOLDS: Mapping[str, HoldReason] = {"due": "due", "quiet_hours": "quiet_hours", "capped": "capped"}


def route(arrival: Arrival, facts: Facts, now: datetime) -> Ruling:
    """Decide about one record; a value for every input, never an exception."""
    if arrival.event is None:
        return Ruling(decision=_unreadable(arrival, now))
    case = Case(event=arrival.event, release_of=arrival.release_of, facts=facts, now=now)
    asked = [_READABLE]
    for name, gate in GATES.items():
        match gate(case):
            case Stop() as stop:
                evidence = stop.evidence[:_LONGEST]
                asked.append(record.Gate(gate=name, passed=False, evidence=evidence))
                return _stopped(arrival, stop.case or case, tuple(asked), stop)
            case (evidence, case):
                asked.append(record.Gate(gate=name, passed=True, evidence=evidence))
            case evidence:
                asked.append(record.Gate(gate=name, passed=True, evidence=evidence))
    deliveries = fan_out(case, arrival.raw)
    return Ruling(decision=_delivered(arrival, case, tuple(asked), deliveries), deliveries=deliveries)


def _unreadable(arrival: Arrival, now: datetime) -> Decision:
    source = arrival.source
    gate = record.Gate(gate="readable", passed=False, evidence=arrival.defect[:_LONGEST])
    return Decision(
        event_id="",
        user_id="",
        tenant="",
        verdict="rejected",
        reason="unreadable",
        gates=(gate,),
        source_topic=source.topic,
        source_partition=source.partition,
        source_offset=source.offset,
        decided_at=now,
        release_of=_release(arrival),
    )


def _stopped(arrival: Arrival, case: Case, asked: tuple[record.Gate, ...], stop: Stop) -> Ruling:
    decision = replace(_decision(arrival, case, stop.verdict, asked), reason=stop.reason, due_at=stop.due_at)
    if stop.due_at is None:
        return Ruling(decision=decision)
    source, event = arrival.source, case.event
    hold = Hold(
        event_id=event.event_id,
        user_id=event.user_id,
        tenant=event.tenant,
        reason=_HOLDS[stop.reason],
        due_at=stop.due_at,
        expires_at=case.expires_at,
        source_topic=source.topic,
        source_partition=source.partition,
        source_offset=source.offset,
        held_at=case.now,
        event=arrival.raw,
    )
    return Ruling(decision=decision, hold=hold)


def _delivered(
    arrival: Arrival, case: Case, asked: tuple[record.Gate, ...], deliveries: tuple[Delivery, ...]
) -> Decision:
    return replace(
        _decision(arrival, case, "deliver", asked),
        deliveries=tuple(
            Planned(delivery_id=d.delivery_id, channel=d.channel, address_id=d.address_id) for d in deliveries
        ),
        template_version=case.kind.template_version,
        locale=case.locale,
        counters=_counted(case),
    )


def _counted(case: Case) -> dict[str, int]:
    """The counters with this event's own sends."""
    category = case.kind.category.name
    sent = {f"{category}/{channel}" for channel in case.open}
    return {name: count + (name in sent) for name, count in case.counters.items()}


def _decision(arrival: Arrival, case: Case, verdict: Verdict, asked: tuple[record.Gate, ...]) -> Decision:
    event, facts, source = case.event, case.facts, arrival.source
    kind = facts.catalogue.get(event.type)
    return Decision(
        event_id=event.event_id,
        user_id=event.user_id,
        tenant=event.tenant,
        verdict=verdict,
        gates=asked,
        channels=case.channels,
        type=event.type,
        lane=event.priority,
        category=kind.category.name if kind else "",
        profile_version=facts.profile.version if facts.profile else None,
        counters=case.counters,
        source_topic=source.topic,
        source_partition=source.partition,
        source_offset=source.offset,
        decided_at=case.now,
        content=event.content,
        release_of=_release(arrival),
        collapse_key=event.collapse_key,
    )


def _release(arrival: Arrival) -> str:
    return "" if arrival.release_of is None else str(arrival.release_of)
