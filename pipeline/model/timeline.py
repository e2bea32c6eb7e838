"""The timeline of an event, and `explain`: why it came, or why nobody heard of it.

Pure values. No address is in it: a delivery names the id of the address.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from pipeline.model.decision import Decision, Reason
from pipeline.model.event import Channel
from pipeline.model.outcome import Result, State
from pipeline.model.recall import Recall
from pipeline.model.standing import Standing


@dataclass(frozen=True, slots=True, kw_only=True)
class Attempt:
    """One attempt to send; two with the same number are a repeat."""

    attempt: int
    outcome: Result
    state: State
    provider: str
    reason: str
    code: str
    tier: str
    not_before: datetime | None
    latency_ms: int
    at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Told:
    """What came back later: a receipt, a bounce, a complaint, or an unsubscribe link that was used."""

    kind: str
    fate: str  # in the words of a receipt; empty for what is none
    code: str
    category: str  # that an unsubscribe link ended
    at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Course:
    """One delivery and what became of it."""

    delivery_id: str
    channel: Channel
    address_id: str
    state: Standing
    outcome: str  # of the attempt that counts; empty before the first
    reason: str
    not_before: datetime | None
    attempts: tuple[Attempt, ...] = ()
    told: tuple[Told, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Timeline:
    """One record of notification.events.* and all that followed from it."""

    decision: Decision  # the latest: of the event, or of its release
    earlier: tuple[Decision, ...] = ()  # those that held it, the first one first
    courses: tuple[Course, ...] = ()
    order: Recall | None = None  # what has withdrawn it while it is held


@dataclass(frozen=True, slots=True, kw_only=True)
class Waiting:
    """An event that is still in the outbox."""

    outbox_id: str
    event_id: str
    topic: str
    created_at: datetime
    error: str | None  # why Kafka refuses it; None while it is on its way


@dataclass(frozen=True, slots=True, kw_only=True)
class Why:
    """The answer to "why": newest first."""

    timelines: tuple[Timeline, ...] = ()
    waiting: tuple[Waiting, ...] = ()


def chains(decisions: Sequence[Decision]) -> list[tuple[Decision, tuple[Decision, ...]]]:
    """For each event its latest decision and the earlier ones that held it; the order stays.

    A release may come more than once. The first is the one that was decided; the others are left out.
    """
    releases: dict[str, Decision] = {}
    for d in decisions:
        if d.release_of:
            first = releases.setdefault(d.release_of, d)
            releases[d.release_of] = min(first, d, key=lambda one: one.source_offset)
    places = {d.place: d for d in decisions}

    def earlier(d: Decision) -> tuple[Decision, ...]:
        before = places.get(d.release_of)
        return () if before is None else (*earlier(before), before)

    return [
        (d, earlier(d))
        for d in decisions
        if not (d.verdict == "held" and d.place in releases)
        and not (d.release_of and releases[d.release_of] is not d)
    ]


REASONS: Mapping[Reason, str] = {
    "": "no reason was given",
    "unreadable": "its bytes cannot be read; they are kept in notification.dead",
    "invalid": "its fields are wrong; it is kept in notification.dead",
    "duplicate": "an earlier record has the same id",
    "id_reused": "an earlier record has the same id and other content; it is kept in notification.dead",
    "expired": "it came too late",
    "recalled": "an operator has withdrawn it",
    "due": "its time has not come",
    "unknown_user": "there is no such user",
    "opted_out": "the user does not want it",
    "no_address": "there is no active address to send it to",
    "no_channel": "its type and its own channels leave none",
    "suppression_list": "nothing is sent to its addresses any more",
    "quiet_hours": "the user sleeps",
    "capped": "the user has had as many of its category as may be",
    "no_template": "there are no words for it; it is kept in notification.dead",
}
_STATES: Mapping[Standing, str] = {
    "delivered": "delivered by {}",
    "in_flight": "to be tried again by {}",
    "planned": "on its way by {}",
    "dead": "given up by {}",
    "expired": "expired on {}",
    "suppressed": "withheld on {}, the user has opted out since",
    "recalled": "recalled on {}",
}
_ORDER = tuple(_STATES)


def explain(why: Why) -> Iterator[str]:
    """The answer in lines: for each event a plain sentence, then its gates, channels and attempts."""
    for waiting in why.waiting:
        yield _waiting(waiting)
    for timeline in why.timelines:
        yield sentence(timeline)
        yield from _details(timeline)


def sentence(timeline: Timeline) -> str:
    """What became of an event, in one sentence, and one for each time that it was held before."""
    return " ".join((_sentence(timeline), *map(_held, timeline.earlier)))


def _held(d: Decision) -> str:
    until = "" if d.due_at is None else f" until {_at(d.due_at)}"
    return f"It was held from {_at(d.decided_at)}{until}: {REASONS.get(d.reason, d.reason)}."


def _sentence(timeline: Timeline) -> str:
    d = timeline.decision
    who = f"{d.tenant}/{d.user_id}" if d.user_id else "nobody"
    name = f"Event {d.event_id or '?'} ({d.type or 'unknown type'}) for {who}"
    if d.verdict == "deliver":
        return f"{name}: {_fate(timeline.courses) or 'decided, its deliveries are not in the log yet'}."
    stopped = next((gate for gate in d.gates if not gate.passed), None)
    where = f" Gate {stopped.gate!r}: {stopped.evidence}." if stopped else ""
    if d.verdict == "held":
        return f"{name} {_waits(timeline.order)}: {REASONS.get(d.reason, d.reason)}.{where}"
    return f"{name} was not sent ({d.verdict}): {REASONS.get(d.reason, d.reason)}.{where}"


def _waits(order: Recall | None) -> str:
    """A recall is carried out when the event is due, but its end is known now."""
    if order is None:
        return "is held for later"
    if order.template_version is None:
        return f"is recalled and will not be sent ({order.evidence()}). Until it is due it is held"
    version = f"if its words are then still of version {order.template_version}"
    return f"will not be sent {version} ({order.evidence()}). Until it is due it is held"


def _fate(courses: Iterable[Course]) -> str:
    found: dict[tuple[Standing, str], list[str]] = {}
    for course in courses:
        found.setdefault((course.state, _cause(course)), []).append(course.channel)
    return "; ".join(
        _STATES[state].format(", ".join(dict.fromkeys(channels))) + cause
        for (state, cause), channels in sorted(found.items(), key=lambda item: _ORDER.index(item[0][0]))
    )


def _cause(course: Course) -> str:
    """Why it is dead; or that a provider took what then did not arrive."""
    if course.state == "dead":
        return f" ({': '.join(word for word in (course.outcome, course.reason) if word)})"
    fates = {told.fate for told in course.told}
    if course.state == "delivered" and "delivered" not in fates and fates & {"failed", "dead_address"}:
        return " (to the provider, whose receipt says that it did not arrive)"
    return ""


def _waiting(waiting: Waiting) -> str:
    if waiting.error is not None:
        return f"Event {waiting.event_id} is parked in the outbox, Kafka cannot take it: {waiting.error}."
    return (
        f"Event {waiting.event_id} waits in the outbox since {_at(waiting.created_at)} for {waiting.topic}: "
        "is the relay running?"
    )


def _details(timeline: Timeline) -> Iterator[str]:
    for d in (*timeline.earlier, timeline.decision):
        yield from _decided(d)
    for course in timeline.courses:
        yield f"  delivery {course.delivery_id} {course.channel} to address {course.address_id}: {course.state}"
        yield from map(_attempt, course.attempts)
        yield from map(_told, course.told)


def _decided(d: Decision) -> Iterator[str]:
    version = "" if d.profile_version is None else f", profile version {d.profile_version}"
    template = "" if d.template_version is None else f", template {d.template_version} {d.locale}"
    yield f"  decided {_at(d.decided_at)} at {d.source_topic}[{d.source_partition}]@{d.source_offset}{version}{template}"
    for gate in d.gates:
        yield f"  {'passed ' if gate.passed else 'STOPPED'} {gate.gate}{': ' if gate.evidence else ''}{gate.evidence}"
    for verdict in d.channels:
        yield f"  channel {verdict.channel}: {'allowed' if verdict.allowed else 'not allowed'}, {verdict.reason}"


def _attempt(attempt: Attempt) -> str:
    facts = [
        f"    attempt {attempt.attempt} {_at(attempt.at)} {attempt.provider or 'not sent'}: {attempt.outcome}"
    ]
    facts += [word for word in (attempt.code, attempt.reason) if word]
    if attempt.not_before is not None:
        facts.append(f"again from {_at(attempt.not_before)} ({attempt.tier})")
    return ", ".join(facts) + f", {attempt.latency_ms} ms"


def _told(told: Told) -> str:
    words = (told.kind, told.fate, told.code, told.category and f"category {told.category}")
    return f"    told {_at(told.at)} {', '.join(word for word in words if word)}"


def _at(at: datetime) -> str:
    return at.isoformat(sep=" ", timespec="milliseconds")
