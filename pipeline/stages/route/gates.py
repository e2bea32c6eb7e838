"""The gates that ask about the event as a whole."""

from dataclasses import replace
from datetime import datetime

from pipeline.model.catalogue import problems
from pipeline.model.profile import Profile
from pipeline.stages.route.case import Answer, Case, Stop, held
from pipeline.stages.route.facts import Source


def valid(case: Case) -> Answer:
    """The type is known; identity, times and variables are right."""
    # An expiry that has passed is the business of its own gate: at the door it is a mistake, here lateness.
    found = problems(replace(case.event, expires_at=None), case.facts.catalogue, case.now)
    if not found:
        return case.event.type
    return Stop(verdict="rejected", reason="invalid", evidence=" | ".join(map(str, found)))


def fresh(case: Case) -> Answer:
    """No earlier record decided the same id; a release passes if what was decided last is its own hold.

    A hold may outlast the window of ids (a month against a week): its release passes as long as nobody
    remembers another decision.
    """
    before, release = case.facts.decided, case.release_of
    if before is None:
        return "" if release is None else f"release of {release}"
    where = decided_at(before.source)
    if release is not None:
        if before.verdict == "held" and before.source == release:
            return f"release of {release}"
    elif before.verdict == "rejected":  # a release that was rejected; what is mended may come again
        return f"rejected at {before.source}"
    elif before.content and before.content != case.event.content:
        return Stop(verdict="rejected", reason="id_reused", evidence=f"other content was {where}")
    return Stop(verdict="duplicate", reason="duplicate", evidence=where)


def decided_at(source: Source) -> str:
    """Evidence: which record has decided the id."""
    return f"decided at {source}"


def in_time(case: Case) -> Answer:
    """It has not expired."""
    end = case.expires_at
    if case.now < end:
        return until(end)
    return Stop(verdict="expired", reason="expired", evidence=f"since {end.isoformat()}")


def until(end: datetime) -> str:
    """Evidence: how long there is time."""
    return f"until {end.isoformat()}"


def not_recalled(case: Case) -> Answer:
    """No operator has withdrawn it."""
    recalls = case.facts.recalls
    if not recalls:
        return ""
    event = case.event
    found = recalls.match(
        tenant=event.tenant,
        event_id=event.event_id,
        collapse_key=event.collapse_key,
        type=event.type,
        template_version=case.kind.template_version,
        created_at=event.created_at,
    )
    if found is None:
        return ""
    return Stop(verdict="recalled", reason="recalled", evidence=found.evidence())


def due(case: Case) -> Answer:
    """Its time has come."""
    at = case.event.deliver_at
    if at is None:
        return ""
    if at <= case.now:
        return f"since {at.isoformat()}"
    return held(case, "due", at, "deliver_at is to come")


def known(case: Case) -> Answer:
    """The user has a profile."""
    profile = case.facts.profile
    if profile is None:
        return Stop(verdict="suppressed", reason="unknown_user", evidence="no profile")
    return version(profile)


def version(profile: Profile) -> str:
    """Evidence: which profile was judged by."""
    return f"profile version {profile.version}"
