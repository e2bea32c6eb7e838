"""The gates of the router: their order, their verdicts, their evidence."""

from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime, time, timedelta
from typing import Any, get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.model.catalogue import Catalogue
from pipeline.model.decision import Decision, Reason
from pipeline.model.event import CHANNELS, Channel, Event
from pipeline.model.hold import Hold
from pipeline.model.profile import Profile
from pipeline.model.recall import Recall, Recalls
from pipeline.stages.route.decide import route
from pipeline.stages.route.facts import Arrival, Decided, Facts, Ruling, Source
from tests.support.make import CATALOGUE, NOW, event, profile

SOURCE = Source(topic="notification.events.normal", partition=2, offset=41)
EARLIER = Source(topic="notification.events.normal", partition=2, offset=7)
HOUR = timedelta(hours=1)

BEFORE = {"decided": Decided(source=EARLIER, verdict="deliver")}  # as an old record says it, without content
WORDLESS: Catalogue = {**CATALOGUE, "flight.cancelled": replace(CATALOGUE["flight.cancelled"], locales=())}
SLEEPS: dict[str, Any] = {"quiet_from": time(11), "quiet_until": time(14)}  # it is 12:00
NEWS = event(type="news.brief")
FULL: dict[str, Any] = {"sent": {"apns": [NOW - HOUR, NOW - HOUR / 2], "sms": [NOW - HOUR]}}


def recalled(**changes: Any) -> dict[str, Recalls]:
    """An order to stop, as a fact."""
    return {"recalls": Recalls([Recall(recall_id="r-1", tenant="acme", at=NOW, **changes)])}


def suppressed(who: Profile, *channels: Channel) -> Profile:
    """The profile with the addresses of these channels on the suppression list."""
    return replace(
        who,
        addresses=tuple(
            replace(a, suppressed="hard_bounce" * (a.channel in channels)) for a in who.addresses
        ),
    )


def rule(
    what: Event | None,
    who: Profile | None,
    *,
    release_of: Source | None = None,
    now: datetime = NOW,
    **facts: Any,
) -> Ruling:
    """Route one arrival."""
    arrival = Arrival(
        source=SOURCE, event=what, raw=b"raw", release_of=release_of, defect="magic byte is 0x7b"
    )
    known: dict[str, Any] = {"decided": None, "profile": who, "catalogue": CATALOGUE, **facts}
    return route(arrival, Facts(**known), now)


STOPS: list[tuple[Event | None, Profile | None, dict[str, Any], str, Reason, str, str]] = [
    # event, profile, other facts, verdict, reason, last gate, a part of the evidence
    (None, None, {}, "rejected", "unreadable", "readable", "magic byte"),
    (event(type="flight.moved"), profile(), {}, "rejected", "invalid", "valid", "not in the catalogue"),
    (event(data={}), profile(), {}, "rejected", "invalid", "valid", "data.flight: is missing"),
    (event(data={"flight": 7}), profile(), {}, "rejected", "invalid", "valid", "is a int"),
    (event(data={"flight": "a\0b"}), profile(), {}, "rejected", "invalid", "valid", "U+0000"),
    (event(deliver_at=datetime(9999, 12, 31, 23, tzinfo=UTC)), profile(), {}, "rejected", "invalid", "valid", "days off"),
    (event(), profile(), BEFORE, "duplicate", "duplicate", "duplicate", "normal/2/7"),
    (event(), profile(), {"decided": Decided(source=EARLIER, verdict="deliver", content=NEWS.content)},
     "rejected", "id_reused", "duplicate", "other content was decided at notification.events.normal/2/7"),
    (event(), profile(), {"decided": Decided(source=EARLIER, verdict="held", content=event().content)},
     "duplicate", "duplicate", "duplicate", "normal/2/7"),
    (event(expires_at=NOW), profile(), {}, "expired", "expired", "expired", "since 2026-03-08T12:00"),
    (event(created_at=NOW - 6 * HOUR), profile(), {}, "expired", "expired", "expired", "since"),
    (event(), profile(), recalled(event_id="e-1"), "recalled", "recalled", "recalled", "recall r-1"),
    (event(collapse_key="k"), profile(), recalled(collapse_key="k"), "recalled", "recalled", "recalled", "r-1"),
    (event(), None, recalled(type="flight.cancelled", template_version=3), "recalled", "recalled", "recalled", "r-1"),
    (event(deliver_at=NOW + HOUR), None, {}, "held", "due", "due", "until 2026-03-08T13:00"),
    (event(deliver_at=NOW + HOUR, expires_at=NOW + HOUR), None, {}, "expired", "expired", "due", "it expires before"),
    (event(), None, {}, "suppressed", "unknown_user", "known", "no profile"),
    (event(), profile(enabled=False), {}, "suppressed", "opted_out", "preference", "global switch"),
    (event(channels=()), profile(), {}, "suppressed", "no_channel", "preference", "share none"),
    (event(type="offer.weekend"), profile(channels=["sms"]), {}, "suppressed", "no_address", "address", "email"),
    (event(), profile(channels=[]), {}, "suppressed", "no_address", "address", "apns"),
    (event(), suppressed(profile(), "apns", "sms", "email"), {},
     "suppressed", "suppression_list", "suppression", "hard_bounce"),
    (event(), profile(**SLEEPS), {}, "held", "quiet_hours", "quiet hours", "11:00 to 14:00 in UTC, until 2026-03-08T14"),
    (event(), profile(**SLEEPS, timezone="No/Where"), {}, "held", "quiet_hours", "quiet hours", "No/Where (unknown: UTC)"),
    (event(expires_at=NOW + 2 * HOUR), profile(**SLEEPS), {}, "expired", "expired", "quiet hours", "it expires before"),
    (NEWS, profile(), FULL, "held", "capped", "frequency", "apns: 2 of 2 in 2 h; sms: 1 of 1 in 24 h, until 2026-03-08T13"),
    (NEWS, profile(channels=["sms"]), FULL, "suppressed", "capped", "frequency", "sms: 1 of 1 in 24 h"),
    (replace(NEWS, expires_at=NOW + HOUR), profile(), FULL, "expired", "expired", "frequency", "it expires before"),
    (event(), profile(), {"catalogue": WORDLESS}, "rejected", "no_template", "template", "version 3 of flight.cancelled"),
]  # fmt: skip


@pytest.mark.parametrize(("what", "who", "facts", "verdict", "reason", "gate", "evidence"), STOPS)
def test_a_stopped_event_names_the_gate_and_its_evidence(
    what: Event | None,
    who: Profile | None,
    facts: dict[str, Any],
    verdict: str,
    reason: str,
    gate: str,
    evidence: str,
) -> None:
    """Every silence is explained: verdict, reason, the gate that stopped it, and the facts."""
    ruling = rule(what, who, **facts)
    decision = ruling.decision
    assert (decision.verdict, decision.reason, decision.gates[-1].gate) == (verdict, reason, gate)
    assert evidence in decision.gates[-1].evidence
    assert not decision.gates[-1].passed
    assert all(passed.passed for passed in decision.gates[:-1])
    assert ruling.deliveries == ()
    assert (ruling.hold is not None) == (decision.due_at is not None) == (verdict == "held")
    assert "to-" not in str(decision), "an address is personal data"


def test_every_reason_has_its_gate() -> None:
    """The closed list holds no reason that no gate gives."""
    assert {reason for _, _, _, _, reason, _, _ in STOPS} == set(get_args(Reason)) - {""}


def test_a_hold_carries_the_event_and_names_its_own_decision() -> None:
    """What comes back is what was held, and the release can prove whose it is."""
    hold = rule(event(deliver_at=NOW + HOUR), profile()).hold
    assert hold == Hold(
        event_id="e-1", user_id="u-1", tenant="acme", reason="due", due_at=NOW + HOUR, expires_at=NOW + 7 * HOUR,
        source_topic=SOURCE.topic, source_partition=2, source_offset=41, held_at=NOW, event=b"raw",
    )  # fmt: skip


@pytest.mark.parametrize(
    ("before", "verdict"),
    [
        (Decided(source=EARLIER, verdict="held"), "deliver"),  # its own hold
        (None, "deliver"),  # a hold that outlasted the window
        (Decided(source=SOURCE, verdict="held"), "duplicate"),  # released before, and held again
        (Decided(source=EARLIER, verdict="deliver"), "duplicate"),  # released before, and delivered
        (Decided(source=EARLIER, verdict="rejected"), "duplicate"),  # released before, and rejected
    ],
)
def test_a_release_passes_only_as_the_end_of_its_own_hold(before: Decided | None, verdict: str) -> None:
    """Timers may release twice; the event is decided once."""
    decision = rule(event(deliver_at=NOW), profile(), release_of=EARLIER, decided=before).decision
    assert (decision.verdict, decision.release_of) == (verdict, str(EARLIER))


def test_what_was_rejected_after_its_release_may_come_again() -> None:
    """The catalogue was mended, and somebody publishes the event anew, mended too."""
    before = Decided(source=EARLIER, verdict="rejected", content=NEWS.content)
    assert rule(event(), profile(), decided=before).decision.verdict == "deliver"


def test_a_hold_of_a_month_is_decided_with_the_facts_of_its_day() -> None:
    """An event for next month does not expire on the way, and an opt-out in the meantime counts."""
    due = NOW + timedelta(days=30)
    what = event(deliver_at=due)
    assert rule(what, profile()).decision.due_at == due
    assert (
        rule(what, profile(), release_of=EARLIER, now=due - HOUR).decision.verdict == "held"
    )  # a clock jumped
    assert rule(what, profile(), release_of=EARLIER, now=due).decision.verdict == "deliver"
    assert rule(what, profile(enabled=False), release_of=EARLIER, now=due).decision.reason == "opted_out"
    assert rule(what, profile(), release_of=EARLIER, now=due + 6 * HOUR).decision.verdict == "expired"


@pytest.mark.parametrize("changes", [{"priority": "urgent"}, {"type": "account.code"}])
def test_what_can_not_wait_passes_quiet_hours_and_says_so(changes: dict[str, Any]) -> None:
    """A one-time code is no use in the morning."""
    decision = rule(event(**changes), profile(**SLEEPS)).decision
    assert decision.verdict == "deliver"
    assert "passed by" in next(gate.evidence for gate in decision.gates if gate.gate == "quiet hours")


def test_a_suppressed_address_gets_nothing_and_the_others_do() -> None:
    """Two phones, one of them dead: the channel stays, the dead one is left out."""
    who = profile(channels=["apns", "apns", "sms"])
    first, second, phone = who.addresses
    who = replace(
        who, addresses=(replace(first, suppressed="dead_address"), second, replace(phone, suppressed="stop"))
    )
    decision = rule(event(), who).decision
    assert [planned.address_id for planned in decision.deliveries] == [second.address_id]
    assert {v.channel: v.reason for v in decision.channels}["sms"] == "suppression list: stop"


def test_a_capped_channel_is_left_out_and_counted() -> None:
    """The other channel is used; the counters after the decision are in its record."""
    decision = rule(NEWS, profile(), sent={"apns": [NOW - HOUR], "sms": [NOW - HOUR]}).decision
    assert [planned.channel for planned in decision.deliveries] == ["apns"]
    assert decision.counters == {"news/apns": 2, "news/sms": 1}
    assert {v.channel: v.reason for v in decision.channels}["sms"] == "capped: 1 of 1 in 24 h"


@pytest.mark.parametrize(
    ("who", "channel"),
    [
        (profile(channels=["sms", "apns", "fcm"]), "fcm"),
        (profile(channels=["sms", "apns"]), "apns"),
        (suppressed(profile(channels=["sms", "apns", "fcm"]), "fcm"), "apns"),
        (profile(channels=["sms", "apns", "fcm"], preferences={("flights", "fcm"): False}), "apns"),
    ],
)
def test_the_first_channel_that_can_be_used_is_chosen(who: Profile, channel: Channel) -> None:
    """The type prefers fcm, then apns, then sms."""
    decision = rule(event(type="seat.free"), who).decision
    assert [planned.channel for planned in decision.deliveries] == [channel]
    assert [verdict.channel for verdict in decision.channels if verdict.allowed] == [channel]


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
