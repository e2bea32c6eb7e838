"""What follows from a provider's answer, for every outcome on every channel."""

from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from typing import Any, get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from connectors import contract
from connectors.contract import (
    Accepted,
    ChannelFault,
    InvalidAddress,
    Permanent,
    Throttled,
    Transient,
    Uncertain,
)
from pipeline.model.delivery import Delivery
from pipeline.model.event import CHANNELS, Channel
from pipeline.model.ladder import TIERS
from pipeline.stages.send.decide import Current, Pause, Verdict, after, is_stale, still_wanted, too_late
from tests.support.make import FLIGHTS, NOW, SECURITY, profile

DELIVERY = Delivery(
    delivery_id="8c7b7f6e-2b61-5b4e-9a53-6d1a2a9c0001",
    event_id="e-1",
    user_id="u-1",
    tenant="acme",
    type="flight.cancelled",
    category="flights",
    channel="apns",
    lane="normal",
    address_id=profile().addresses[0].address_id,
    address="to-apns",
    locale="en",
    template_version=3,
    decided_at=NOW,
    event=b"",
)
SOON = timedelta(seconds=45)
OUTCOMES: list[contract.Outcome] = [
    Accepted(provider_id="p-1"),
    Permanent(reason="no", code="400"),
    InvalidAddress(reason="gone", code="410"),
    Transient(reason="later"),
    Throttled(reason="slower", retry_after=SOON),
    Uncertain(reason="no answer"),
    ChannelFault(reason="set the key", code="403"),
]


def verdict(outcome: contract.Outcome, **changes: Any) -> Verdict:
    """The verdict, which is no pause."""
    found = after(replace(DELIVERY, **changes), outcome, NOW)
    assert isinstance(found, Verdict)
    return found


def shape(found: Verdict | Pause) -> tuple[str, str, str, str]:
    """The verdict on one line: result, state, tier, disposition."""
    if isinstance(found, Pause):
        return ("pause", "", "", "")
    return (
        found.result,
        found.state,
        found.climb.tier.name if found.climb else "",
        found.disposition or "",
    )


EXPECTED: dict[type[contract.Outcome], Callable[[Channel], tuple[str, str, str, str]]] = {
    Accepted: lambda _: ("delivered", "delivered", "", ""),
    Permanent: lambda _: ("permanent", "dead", "", "permanent"),
    InvalidAddress: lambda _: ("invalid_address", "dead", "", "invalid_address"),
    Transient: lambda _: ("transient", "in_flight", "10s", ""),
    Throttled: lambda _: ("throttled", "in_flight", "1m", ""),  # 45 s are rounded up
    Uncertain: lambda channel: (
        ("uncertain", "dead", "", "uncertain")  # an SMS has no handle: it is never repeated by itself
        if channel == "sms"
        else ("uncertain", "in_flight", "10s", "")  # the repeat carries the same identity
    ),
    ChannelFault: lambda _: ("pause", "", "", ""),
}


@pytest.mark.parametrize("channel", CHANNELS)
@pytest.mark.parametrize("outcome", OUTCOMES, ids=lambda outcome: type(outcome).__name__)
def test_first_attempt(outcome: contract.Outcome, channel: Channel) -> None:
    """Each of the seven outcomes has its consequence on each channel."""
    found = after(replace(DELIVERY, channel=channel), outcome, NOW)
    assert shape(found) == EXPECTED[type(outcome)](channel)


def test_the_table_is_complete() -> None:
    """An outcome added to the contract is missed here."""
    assert set(get_args(contract.Outcome)) == {type(outcome) for outcome in OUTCOMES} == set(EXPECTED)


@pytest.mark.parametrize("outcome", [OUTCOMES[3], OUTCOMES[4], OUTCOMES[5]])
def test_the_ladder_ends(outcome: contract.Outcome) -> None:
    """After the last tier a repeatable outcome is dead, as exhausted."""
    assert shape(verdict(outcome, attempt=len(TIERS) + 1)) == (
        verdict(outcome).result,
        "dead",
        "",
        "exhausted",
    )


def test_what_would_come_too_late_expires() -> None:
    """No retry is planned for after the deadline, and it is no dead letter."""
    found = verdict(Transient(reason="later"), expires_at=NOW + timedelta(seconds=5))
    assert shape(found) == ("transient", "expired", "", "")


def test_a_wait_has_a_cap() -> None:
    """A provider that says 'in a week' is asked again after a day."""
    found = verdict(Throttled(reason="slower", retry_after=timedelta(days=7)))
    assert found.climb is not None
    assert found.climb.not_before == NOW + timedelta(hours=24)


@given(
    outcome=st.sampled_from(OUTCOMES),
    channel=st.sampled_from(CHANNELS),
    attempt=st.integers(1, 9),
    left=st.none() | st.timedeltas(timedelta(seconds=1), timedelta(days=2)),
)
def test_exactly_one_way_on(
    outcome: contract.Outcome, channel: Channel, attempt: int, left: timedelta | None
) -> None:
    """In flight means a tier and nothing else does; dead means a disposition; nothing climbs past its end."""
    expires_at = None if left is None else NOW + left
    found = after(replace(DELIVERY, channel=channel, attempt=attempt, expires_at=expires_at), outcome, NOW)
    if isinstance(found, Pause):
        return
    assert (found.state == "in_flight") == (found.climb is not None)
    assert (found.state == "dead") == (found.disposition is not None)
    if found.climb is not None and expires_at is not None:
        assert found.climb.not_before < expires_at


def test_expiry_is_a_gate() -> None:
    """At its deadline a delivery is not sent any more."""
    assert too_late(DELIVERY, NOW) is None
    assert too_late(replace(DELIVERY, expires_at=NOW + timedelta(seconds=1)), NOW) is None
    late = too_late(replace(DELIVERY, expires_at=NOW), NOW)
    assert late is not None
    assert shape(late) == ("expired", "expired", "", "")


def test_consent_is_asked_again_when_time_has_passed() -> None:
    """A first attempt right after the decision trusts it; every later one does not."""
    assert not is_stale(DELIVERY, NOW)
    assert is_stale(replace(DELIVERY, attempt=2), NOW)
    assert is_stale(DELIVERY, NOW + timedelta(seconds=6))


def test_an_opt_out_since_the_decision_holds() -> None:
    """By the global switch, by category and channel, and by the user's end."""
    for now in (
        profile(enabled=False),
        profile(preferences={("flights", "apns"): False}),
        None,
        profile(channels=[]),  # the address is gone
        replace(profile(), addresses=(replace(profile().addresses[0], suppressed="complaint"),)),
    ):
        found = still_wanted(DELIVERY, now, FLIGHTS)
        assert isinstance(found, Verdict)
        assert shape(found) == ("suppressed", "suppressed", "", "")
        assert found.reason


def test_as_of_the_decision_only_hard_stops_hold() -> None:
    """A wish that has changed since counts no more; switch, suppression list and a lost address do."""
    changed = profile(preferences={("flights", "apns"): False})
    assert isinstance(still_wanted(DELIVERY, changed, FLIGHTS, as_of_decision=True), Current)
    for now in (
        profile(enabled=False),
        None,
        profile(channels=[]),
        replace(profile(), addresses=(replace(profile().addresses[0], suppressed="complaint"),)),
    ):
        assert isinstance(still_wanted(DELIVERY, now, FLIGHTS, as_of_decision=True), Verdict)


def test_required_passes_an_opt_out() -> None:
    """A security code reaches a user who has switched everything off, but only at an active address."""
    assert isinstance(still_wanted(DELIVERY, profile(enabled=False), SECURITY), Current)
    assert isinstance(still_wanted(DELIVERY, profile(channels=[]), SECURITY), Verdict)


def test_an_address_that_moved_is_followed() -> None:
    """The stored address is read again: a rotated token is used, with the day it was registered."""
    found = still_wanted(replace(DELIVERY, address="old"), profile(), FLIGHTS)
    assert isinstance(found, Current)
    assert (found.delivery.address, found.registered_at) == ("to-apns", NOW)
    assert found.delivery.profile_version == 7
