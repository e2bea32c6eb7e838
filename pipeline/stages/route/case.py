"""A case: one event on its way through the gates, and how a gate answers."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime

from pipeline.model.catalogue import EventType
from pipeline.model.decision import ChannelVerdict, Reason, Verdict
from pipeline.model.event import Channel, Event
from pipeline.model.profile import Address, Profile
from pipeline.stages.route.facts import Facts, Source


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """The event, the facts, and what the gates so far have left of its channels."""

    event: Event
    release_of: Source | None
    facts: Facts
    now: datetime
    channels: tuple[ChannelVerdict, ...] = ()  # from the gate `preference` on, one per channel of the event
    targets: tuple[Address, ...] = ()  # from the gate `address` on: where it may go
    locale: str = ""  # from the gate `template` on
    counters: Mapping[str, int] = field(default_factory=dict[str, int])  # from the gate `frequency` on

    @property
    def kind(self) -> EventType:
        """The event's type. Asked after the gate `valid`."""
        return self.facts.catalogue[self.event.type]

    @property
    def profile(self) -> Profile:
        """The user. Asked after the gate `known`."""
        assert self.facts.profile is not None, "asked after the gate 'known'"
        return self.facts.profile

    @property
    def expires_at(self) -> datetime:
        """From when on it is not sent any more: its own word, else the type's time to live."""
        event = self.event
        return event.expires_at or (event.deliver_at or event.created_at) + self.kind.time_to_live

    @property
    def open(self) -> tuple[Channel, ...]:
        """The channels that no gate has closed so far, in the order of preference."""
        return tuple(verdict.channel for verdict in self.channels if verdict.allowed)


@dataclass(frozen=True, slots=True, kw_only=True)
class Stop:
    """A gate does not let the event pass."""

    verdict: Verdict
    reason: Reason
    evidence: str
    due_at: datetime | None = None  # until when it is held
    case: Case | None = None  # when the gate closed channels


Answer = str | tuple[str, Case] | Stop
"""The evidence of a pass, with what the gate has left of the case when it changed; or the stop."""
Gate = Callable[[Case], Answer]


def held(case: Case, reason: Reason, until: datetime, evidence: str) -> Stop:
    """Hold the event. What would be released after its expiry is expired now: nothing can come of it."""
    evidence = f"{evidence}, until {until.isoformat()}"
    if until >= case.expires_at:
        evidence = f"{evidence}; it expires before, at {case.expires_at.isoformat()}"
        return Stop(verdict="expired", reason="expired", evidence=evidence, case=case)
    return Stop(verdict="held", reason=reason, evidence=evidence, due_at=until, case=case)


def close(case: Case, why: Mapping[Channel, str]) -> tuple[ChannelVerdict, ...]:
    """The verdicts of the channels, with these closed and the reason of each."""
    return tuple(
        ChannelVerdict(channel=v.channel, allowed=False, reason=why[v.channel])
        if v.allowed and v.channel in why
        else v
        for v in case.channels
    )
