"""Values and strategies for the notification log: histories of decisions and outcomes that belong together."""

from datetime import timedelta
from typing import Any, get_args

from hypothesis import strategies as st

from pipeline.model.decision import Decision, Planned
from pipeline.model.delivery import delivery_id
from pipeline.model.event import Channel
from pipeline.model.outcome import Outcome, Result, State
from tests.support.make import NOW

_STATES: dict[Result, tuple[State, ...]] = {
    "delivered": ("delivered",),
    "permanent": ("dead",),
    "invalid_address": ("dead",),
    "transient": ("in_flight", "dead"),
    "throttled": ("in_flight", "dead"),
    "uncertain": ("in_flight", "dead"),
    "channel_fault": ("in_flight",),
    "expired": ("expired",),
    "suppressed": ("suppressed",),
    "recalled": ("recalled",),
    "unrenderable": ("dead",),
}


def decision(event_id: str = "e-1", user_id: str = "u-1", **changes: Any) -> Decision:
    """A decision to deliver, without deliveries, with changes."""
    values: dict[str, Any] = {
        "event_id": event_id,
        "user_id": user_id,
        "tenant": "acme",
        "verdict": "deliver",
        "type": "flight.cancelled",
        "category": "flights",
        "source_topic": "notification.events.normal",
        "source_partition": 0,
        "source_offset": 0,
        "decided_at": NOW,
    }
    return Decision(**{**values, **changes})


def outcome(delivery_id: str = "d-1", **changes: Any) -> Outcome:
    """The outcome of a first attempt that delivered, with changes."""
    values: dict[str, Any] = {
        "delivery_id": delivery_id,
        "event_id": "e-1",
        "user_id": "u-1",
        "tenant": "acme",
        "channel": "sms",
        "provider": "vonage",
        "address_id": "a-1",
        "attempt": 1,
        "outcome": "delivered",
        "state": "delivered",
        "source_topic": "notification.deliver.sms.normal",
        "source_partition": 0,
        "source_offset": 0,
        "at": NOW,
    }
    return Outcome(**{**values, **changes})


@st.composite
def outcomes(draw: st.DrawFn, of: Planned | None = None, event_id: str = "e-1") -> Outcome:
    """One outcome; what ends at the same time from the same source is the same attempt, so times differ."""
    result: Result = draw(st.sampled_from(get_args(Result)))
    state = draw(st.sampled_from(_STATES[result]))
    number = draw(st.integers(0, 10_000))
    return outcome(
        delivery_id=of.delivery_id if of else "d-1",
        channel=of.channel if of else "sms",
        address_id=of.address_id if of else "a-1",
        event_id=event_id,
        attempt=draw(st.integers(1, 6)),
        outcome=result,
        state=state,
        reason=draw(st.sampled_from(["", "because", "nul \0 in it"])),
        at=NOW + timedelta(milliseconds=number),
        source_offset=number,
    )


@st.composite
def histories(draw: st.DrawFn) -> tuple[list[Decision], list[Outcome]]:
    """Decisions of a few events, some used twice, and outcomes of their deliveries."""
    decisions: list[Decision] = []
    found: list[Outcome] = []
    for offset in range(draw(st.integers(1, 5))):
        event_id = draw(st.sampled_from(["e-1", "e-2", "e-3"]))
        channels: list[Channel] = draw(st.lists(st.sampled_from(["apns", "sms"]), unique=True))
        planned = [
            Planned(
                delivery_id=delivery_id("acme", "u-1", event_id, channel, f"a-{channel}"),
                channel=channel,
                address_id=f"a-{channel}",
            )
            for channel in channels
        ]
        verdict = "deliver" if planned else "suppressed"
        decisions.append(
            decision(event_id=event_id, verdict=verdict, deliveries=tuple(planned), source_offset=offset)
        )
        for one in planned:
            found += draw(st.lists(outcomes(of=one, event_id=event_id), max_size=3, unique_by=lambda o: o.at))
    unique = {(o.delivery_id, o.at): o for o in found}
    return decisions, list(unique.values())
