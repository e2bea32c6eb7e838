"""The gates that ask channel by channel. Each closes channels; the event stops where none is left."""

from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime, timedelta

from pipeline.model.catalogue import Cap
from pipeline.model.decision import ChannelVerdict
from pipeline.model.event import Channel
from pipeline.model.preferences import allows
from pipeline.model.quiet import opens_at, zone
from pipeline.model.template import choose_locale, fallbacks
from pipeline.stages.route.case import Answer, Case, Stop, close, held


def wanted(case: Case) -> Answer:
    """The user wants the category on at least one channel of type and event."""
    kind = case.kind
    chosen = kind.channels if case.event.channels is None else case.event.channels
    verdicts: list[ChannelVerdict] = []
    for channel in dict.fromkeys(chosen):
        if channel in kind.channels:
            answer = allows(case.profile, kind.category, channel)
            verdicts.append(ChannelVerdict(channel=channel, allowed=answer.allowed, reason=answer.reason))
    if not verdicts:
        evidence = "the type and the override share none"
        return Stop(verdict="suppressed", reason="no_channel", evidence=evidence)
    case = replace(case, channels=tuple(verdicts))
    evidence = "; ".join(f"{verdict.channel}: {verdict.reason}" for verdict in verdicts)
    if case.open:
        return evidence, case
    return Stop(verdict="suppressed", reason="opted_out", evidence=evidence, case=case)


def reachable(case: Case) -> Answer:
    """A wanted channel has somewhere to send to."""
    open = case.open
    targets = tuple(address for address in case.profile.addresses if address.channel in open)
    reached = {address.channel for address in targets}
    missing: dict[Channel, str] = {channel: "no active address" for channel in open if channel not in reached}
    left = replace(case, channels=close(case, missing) if missing else case.channels, targets=targets)
    if targets:
        return f"{len(targets)} addresses", left
    evidence = f"no active address for {', '.join(open)}"
    return Stop(verdict="suppressed", reason="no_address", evidence=evidence, case=left)


def unsuppressed(case: Case) -> Answer:
    """An address is left that has not bounced for good, and whose owner has not complained."""
    bad = [address for address in case.targets if address.suppressed]
    if not bad:
        return ""
    targets = tuple(address for address in case.targets if not address.suppressed)
    reached = {address.channel for address in targets}
    gone: dict[Channel, str] = {
        a.channel: f"suppression list: {a.suppressed}" for a in bad if a.channel not in reached
    }
    left = replace(case, channels=close(case, gone), targets=targets)
    # The address's id, never the address: evidence is read by people.
    evidence = "; ".join(f"{a.channel} {a.address_id}: {a.suppressed}" for a in bad)
    if targets:
        return evidence, left
    return Stop(verdict="suppressed", reason="suppression_list", evidence=evidence, case=left)


def awake(case: Case) -> Answer:
    """The user is not to be left in peace now, or it can't wait."""
    profile = case.profile
    if profile.quiet_from is None or profile.quiet_until is None:
        return ""
    window = f"{profile.quiet_from:%H:%M} to {profile.quiet_until:%H:%M} in {profile.timezone}"
    if zone(profile.timezone) is None:
        window += " (unknown: UTC)"
    until = opens_at(profile, case.now)
    if until == case.now:
        return f"outside {window}"
    if case.kind.category.required:
        return f"inside {window}, passed by a required category"
    if case.event.priority == "urgent":
        return f"inside {window}, passed by the urgent lane"
    return held(case, "quiet_hours", until, window)


def uncapped(case: Case) -> Answer:
    """A channel is left that the category may still use: the user's cap for it is not reached."""
    caps = case.kind.category.caps
    limits: dict[Channel, Cap] = {channel: caps[channel] for channel in case.open if channel in caps}
    if not limits:
        return ""
    counts: dict[Channel, int] = {}
    slots: dict[Channel, datetime] = {}
    for channel, cap in limits.items():
        recent = [at for at in case.facts.sent.get(channel, ()) if at > case.now - cap.window]
        counts[channel] = len(recent)
        if len(recent) >= cap.limit:
            slots[channel] = recent[-cap.limit] + cap.window
    category = case.kind.category.name
    told = {channel: f"{counts[channel]} of {_words(cap)}" for channel, cap in limits.items()}
    left = replace(
        case,
        channels=close(case, {channel: f"capped: {told[channel]}" for channel in slots}),
        targets=tuple(address for address in case.targets if address.channel not in slots),
        counters={f"{category}/{channel}": count for channel, count in counts.items()},
    )
    evidence = "; ".join(f"{channel}: {words}" for channel, words in told.items())
    if left.open:
        return evidence, left
    return _capped(left, limits, slots, evidence)


def _capped(
    case: Case, caps: Mapping[Channel, Cap], slots: Mapping[Channel, datetime], evidence: str
) -> Stop:
    waiting = [slot for channel, slot in slots.items() if caps[channel].then == "hold"]
    if waiting:
        return held(case, "capped", min(waiting), evidence)
    return Stop(verdict="suppressed", reason="capped", evidence=evidence, case=case)


def _words(cap: Cap) -> str:
    return f"{cap.limit} in {cap.window / timedelta(hours=1):g} h"


def chosen(case: Case) -> Answer:
    """Of the channels that are left all, or only the first: as the type says."""
    open = case.open
    if case.kind.choice == "all" or len(open) == 1:
        return f"{case.kind.choice}: {', '.join(open)}"
    first, *others = open
    channels = close(case, dict.fromkeys(others, f"{first} comes first"))
    targets = tuple(address for address in case.targets if address.channel == first)
    return f"first of {', '.join(open)}", replace(case, channels=channels, targets=targets)


def worded(case: Case) -> Answer:
    """The pinned version of the template has words, in the language asked for or in the default."""
    kind = case.kind
    version = f"version {kind.template_version}"
    if not kind.locales:
        evidence = f"{version} of {kind.name} has no words in any language"
        return Stop(verdict="rejected", reason="no_template", evidence=evidence, case=case)
    asked = case.event.locale or case.profile.locale
    locale = choose_locale(asked, kind.locales)
    way = " → ".join(dict.fromkeys((*fallbacks(asked), kind.locales[0])))
    return f"{version} in {locale}, of {way}", replace(case, locale=locale)
