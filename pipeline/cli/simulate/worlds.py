"""A part of the log decided twice: under the rules that hold, and under others. Pure.

Both worlds get the same events in the order of their decisions, at the times of these, with the same
profiles; each counts its own sends towards the caps. So whatever differs comes from the rules alone. What
is held counts as held: the simulation does not wait for its release.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any, Literal, NamedTuple

from pipeline.model.catalogue import LONGEST_CAP, Catalogue, Category
from pipeline.model.decision import Decision
from pipeline.model.delivery import Delivery
from pipeline.model.event import Channel, Event
from pipeline.model.profile import Profile, Wishes
from pipeline.ports import UserKey
from pipeline.stages.route.decide import route
from pipeline.stages.route.facts import Arrival, Facts, Ruling, Source

Fate = Literal["gain", "lose", "change", "same"]
Words = Callable[[Delivery, Event], bool]  # whether it can be rendered
_SAMPLES = 5  # events of each fate that are named


class Past(NamedTuple):
    """An event as it was, and when it was decided."""

    event: Event
    raw: bytes
    source: Source
    at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Rules:
    """What changes, beside the words."""

    categories: Mapping[str, Category] = field(default_factory=dict[str, Category])  # whole ones, by name
    defaults: Mapping[str, Wishes] = field(default_factory=dict[str, Wishes])  # of tenants; wins over theirs

    def catalogue(self, types: Catalogue) -> Catalogue:
        """The types with the changed categories."""
        changed = self.categories
        return {
            name: replace(kind, category=changed.get(kind.category.name, kind.category))
            for name, kind in types.items()
        }

    def profile(self, profile: Profile) -> Profile:
        """The user under changed defaults of the tenant."""
        wishes = self.defaults.get(profile.tenant)
        if wishes is None:
            return profile
        return replace(profile, tenant_defaults={**profile.tenant_defaults, **wishes})


class World:
    """One set of rules, and what it has sent so far."""

    def __init__(self, types: Catalogue, rules: Rules, words: Words | None = None) -> None:
        self._types = rules.catalogue(types)
        self._rules = rules
        self._words = words
        self._sent: dict[tuple[str, str, str, str], list[datetime]] = {}

    def remember(self, decision: Decision) -> None:
        """A decision of before: what it sent counts."""
        for channel in {planned.channel for planned in decision.deliveries}:
            self._count(decision.tenant, decision.user_id, decision.category, channel, decision.decided_at)

    def decide(self, past: Past, profile: Profile | None) -> tuple[frozenset[Channel], str]:
        """The channels that the event goes out by, and the verdict with its reason."""
        event, kind = past.event, self._types.get(past.event.type)
        caps = kind.category.caps if kind else {}
        name = kind.category.name if kind else ""
        facts = Facts(
            decided=None,
            profile=None if profile is None else self._rules.profile(profile),
            catalogue=self._types,
            sent={c: self._sent.get((event.tenant, event.user_id, name, c), ()) for c in caps},
        )
        ruling = route(Arrival(source=past.source, event=event, raw=past.raw), facts, past.at)
        channels = self._worded(ruling, event)
        for channel in channels:
            self._count(event.tenant, event.user_id, name, channel, past.at)
        if ruling.deliveries and not channels:
            return channels, "unrenderable"
        verdict, reason = ruling.decision.verdict, ruling.decision.reason
        return channels, f"{verdict}: {reason}" if reason else verdict

    def _worded(self, ruling: Ruling, event: Event) -> frozenset[Channel]:
        words = self._words
        return frozenset(d.channel for d in ruling.deliveries if words is None or words(d, event))

    def _count(self, tenant: str, user: str, category: str, channel: str, at: datetime) -> None:
        sent = self._sent.setdefault((tenant, user, category, channel), [])
        while sent and sent[0] <= at - LONGEST_CAP:
            sent.pop(0)
        sent.append(at)


@dataclass(slots=True)
class Difference:
    """Who would gain, lose or change channel."""

    events: Counter[Fate] = field(default_factory=Counter[Fate])
    users: dict[Fate, set[UserKey]] = field(default_factory=dict[Fate, set[UserKey]])
    moves: Counter[tuple[Fate, str, str, str]] = field(default_factory=Counter[tuple[Fate, str, str, str]])
    samples: dict[Fate, list[str]] = field(default_factory=dict[Fate, list[str]])

    def add(
        self, past: Past, before: tuple[frozenset[Channel], str], after: tuple[frozenset[Channel], str]
    ) -> None:
        """One event, under both rules."""
        fate, event = _fate(before, after), past.event
        self.events[fate] += 1
        self.users.setdefault(fate, set()).add((event.tenant, event.user_id))
        self.moves[fate, event.type, _told(before), _told(after)] += 1
        samples = self.samples.setdefault(fate, [])
        if len(samples) < _SAMPLES:
            samples.append(event.event_id)

    def as_json(self) -> dict[str, Any]:
        """Everything, as values that JSON knows."""
        fates: Sequence[Fate] = ("gain", "lose", "change", "same")
        return {
            "events": {fate: self.events[fate] for fate in fates},
            "users": {fate: len(self.users.get(fate, ())) for fate in fates},
            "moves": [
                {"fate": fate, "type": type, "before": before, "after": after, "events": count}
                for (fate, type, before, after), count in self.moves.most_common()
            ],
            "samples": {fate: self.samples.get(fate, []) for fate in fates},
        }


def compare(
    pasts: Iterable[Past], profiles: Mapping[UserKey, Profile], present: World, other: World
) -> Difference:
    """Decide every event in both worlds, in this order."""
    found = Difference()
    for past in pasts:
        profile = profiles.get((past.event.tenant, past.event.user_id))
        found.add(past, present.decide(past, profile), other.decide(past, profile))
    return found


def _fate(before: tuple[frozenset[Channel], str], after: tuple[frozenset[Channel], str]) -> Fate:
    """By what reaches the user; another reason for the same silence is a change as well."""
    if before == after:
        return "same"
    if bool(before[0]) == bool(after[0]):
        return "change"
    return "gain" if after[0] else "lose"


def _told(outcome: tuple[frozenset[Channel], str]) -> str:
    channels, verdict = outcome
    return ", ".join(sorted(channels)) or verdict
