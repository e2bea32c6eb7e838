"""The gates of the router: their order, their verdicts, their evidence."""

from collections.abc import Mapping
from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.model.decision import Decision
from pipeline.model.event import CHANNELS, Channel, Event
from pipeline.model.profile import Profile
from pipeline.stages.route.decide import route
from pipeline.stages.route.facts import Arrival, Decided, Facts, Ruling, Source
from tests.support.make import CATALOGUE, NOW, event, profile

SOURCE = Source(topic="notification.events.normal", partition=2, offset=41)
EARLIER = Source(topic="notification.events.normal", partition=2, offset=7)


def rule(
    what: Event | None, who: Profile | None, *, before: Source | None = None, defect: str = ""
) -> Ruling:
    """Route one arrival at NOW."""
    arrival = Arrival(source=SOURCE, event=what, raw=b"raw", defect=defect)
    decided = None if before is None else Decided(source=before, verdict="deliver")
    return route(arrival, Facts(decided=decided, profile=who, catalogue=CATALOGUE), NOW)


STOPS = [
    # event, profile, decided before, verdict, reason, last gate, a part of the evidence
    (None, None, None, "rejected", "unreadable", "readable", "magic byte"),
    (event(type="flight.moved"), profile(), None, "rejected", "invalid", "valid", "not in the catalogue"),
    (event(data={}), profile(), None, "rejected", "invalid", "valid", "data.flight: is missing"),
    (event(data={"flight": 7}), profile(), None, "rejected", "invalid", "valid", "is a int"),
    (event(), profile(), EARLIER, "duplicate", "duplicate", "duplicate", "normal/2/7"),
    (event(expires_at=NOW), profile(), None, "expired", "expired", "expired", "since 2026-03-08T12:00"),
    (event(created_at=NOW - timedelta(hours=6)), profile(), None, "expired", "expired", "expired", "since"),
    (event(), None, None, "suppressed", "unknown_user", "known", "no profile"),
    (event(), profile(enabled=False), None, "suppressed", "opted_out", "preference", "global switch"),
    (event(channels=()), profile(), None, "suppressed", "no_channel", "preference", "share none"),
    (event(type="offer.weekend"), profile(channels=["sms"]), None, "suppressed", "no_address", "address", "email"),
    (event(), profile(channels=[]), None, "suppressed", "no_address", "address", "apns"),
]  # fmt: skip


@pytest.mark.parametrize(("what", "who", "before", "verdict", "reason", "gate", "evidence"), STOPS)
def test_a_stopped_event_names_the_gate_and_its_evidence(
    what: Event | None,
    who: Profile | None,
    before: Source | None,
    verdict: str,
    reason: str,
    gate: str,
    evidence: str,
) -> None:
    """Every silence is explained: verdict, reason, the gate that stopped it, and the facts."""
    ruling = rule(what, who, before=before, defect="magic byte is 0x7b")
    decision = ruling.decision
    assert (decision.verdict, decision.reason, decision.gates[-1].gate) == (verdict, reason, gate)
    assert evidence in decision.gates[-1].evidence
    assert not decision.gates[-1].passed
    assert all(passed.passed for passed in decision.gates[:-1])
    assert ruling.deliveries == ()


def test_an_event_reaches_every_address_of_the_allowed_channels() -> None:
    """The fan-out writes one delivery per address, and the decision names each of them."""
    who = profile(channels=["apns", "apns", "sms", "email"], preferences={("flights", "sms"): False})
    ruling = rule(event(), who)
    assert [d.channel for d in ruling.deliveries] == ["apns", "apns", "email"]
    assert [p.delivery_id for p in ruling.decision.deliveries] == [d.delivery_id for d in ruling.deliveries]
    assert {v.channel: v.allowed for v in ruling.decision.channels}["sms"] is False
    assert {d.event for d in ruling.deliveries} == {b"raw"}
    assert {d.expires_at for d in ruling.deliveries} == {NOW + timedelta(hours=6)}


def test_the_language_is_pinned_by_the_event_then_the_profile_then_the_default() -> None:
    """A replay renders the same words: language and version are in the decision."""
    spoken = [
        (event(), profile(locale="de-AT"), "de"),
        (event(locale="en-GB"), profile(locale="de"), "en"),
        (event(), profile(locale="ja"), "en"),
    ]
    for what, who, locale in spoken:
        decision = rule(what, who).decision
        assert (decision.locale, decision.template_version) == (locale, 3)


def test_a_required_category_passes_every_opt_out_and_says_so() -> None:
    """A security code arrives though everything is switched off, and the audit shows why."""
    who = profile(channels=["sms"], enabled=False, preferences={("security", "sms"): False})
    decision = rule(event(type="account.code"), who).decision
    assert decision.verdict == "deliver"
    assert [(v.channel, v.reason) for v in decision.channels if v.allowed] == [
        ("sms", "required category, passes: global switch is off")
    ]


channels = st.sampled_from(CHANNELS)


@given(
    wishes=st.dictionaries(channels, st.booleans()),
    addresses=st.lists(channels, max_size=6),
    enabled=st.booleans(),
    override=st.none() | st.lists(channels, unique=True).map(tuple),
    kind=st.sampled_from(sorted(CATALOGUE)),
)
def test_no_delivery_leaves_against_the_users_word(
    wishes: Mapping[Channel, bool],
    addresses: list[Channel],
    enabled: bool,
    override: tuple[Channel, ...] | None,
    kind: str,
) -> None:
    """Whatever the preferences: a delivery exists exactly for addresses on channels that are allowed."""
    category = CATALOGUE[kind].category
    who = profile(
        channels=addresses, enabled=enabled, preferences={(category.name, c): v for c, v in wishes.items()}
    )
    ruling = rule(event(type=kind, channels=override), who)
    wanted = {
        c
        for c in CATALOGUE[kind].channels
        if (override is None or c in override)
        and (category.required or (enabled and wishes.get(c, c in category.on_by_default)))
    }
    if CATALOGUE[kind].choice == "first":
        wanted = set([c for c in override or CATALOGUE[kind].channels if c in wanted & set(addresses)][:1])
    assert [d.channel for d in ruling.deliveries] == [c for c in addresses if c in wanted]
    assert (ruling.decision.verdict == "deliver") is bool(ruling.deliveries)
    assert len({d.delivery_id for d in ruling.deliveries}) == len(ruling.deliveries)


@given(text=st.text(max_size=200), number=st.integers() | st.booleans() | st.floats() | st.none())
def test_no_content_of_an_event_makes_the_router_fail(text: str, number: float | None) -> None:
    """A poison record is a verdict, never an exception that stops a partition."""
    what = event(event_id=text, user_id=text, type=text, locale=text, data={"flight": text, text: number})
    ruling = rule(what, profile())
    assert isinstance(ruling.decision, Decision)
    assert (ruling.decision.verdict == "rejected") or ruling.deliveries
