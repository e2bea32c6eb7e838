"""`explain`: a plain sentence first, then the gates with their evidence."""

from datetime import timedelta
from typing import get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.model.decision import ChannelVerdict, Decision, Gate, Reason
from pipeline.model.recall import Recall
from pipeline.model.timeline import (
    REASONS,
    Attempt,
    Course,
    Timeline,
    Told,
    Waiting,
    Why,
    chains,
    explain,
    sentence,
)
from tests.support.log import decision
from tests.support.make import NOW

TRIED = Attempt(
    attempt=1, outcome="throttled", state="in_flight", provider="vonage", reason="slow down", code="429",
    tier="10s", not_before=NOW, latency_ms=31, at=NOW,
)  # fmt: skip


def course(**changes: object) -> Course:
    """A delivery that was sent, with changes."""
    values = {
        "delivery_id": "d-1",
        "channel": "sms",
        "address_id": "a-1",
        "state": "delivered",
        "outcome": "delivered",
        "reason": "",
        "not_before": None,
    }
    return Course(**{**values, **changes})  # pyright: ignore[reportArgumentType]


def test_every_reason_has_its_words() -> None:
    """A reason that the router may write is one that `why` can say."""
    assert set(REASONS) == set(get_args(Reason))


def test_a_stopped_event_names_its_gate_and_evidence() -> None:
    """Every silence is explained by the gate that made it."""
    gates = (
        Gate(gate="known", passed=True, evidence="profile version 7"),
        Gate(gate="preference", passed=False, evidence="global switch is off"),
    )
    found = decision(verdict="suppressed", reason="opted_out", gates=gates)
    assert sentence(Timeline(decision=found)) == (
        "Event e-1 (flight.cancelled) for acme/u-1 was not sent (suppressed): the user does not want it. "
        "Gate 'preference': global switch is off."
    )


def test_a_delivered_event_says_where_and_what_failed() -> None:
    """One sentence for all channels, good news first; words of a provider are only quoted."""
    courses = (
        course(channel="fcm", state="dead", outcome="invalid_address", reason="un{registered}"),
        course(channel="apns", state="in_flight", outcome="transient"),
        course(channel="sms"),
        course(channel="email"),
    )
    assert sentence(Timeline(decision=decision(), courses=courses)) == (
        "Event e-1 (flight.cancelled) for acme/u-1: delivered by sms, email; to be tried again by apns; "
        "given up by fcm (invalid_address: un{registered})."
    )


def test_details_follow_in_the_order_of_the_gates() -> None:
    """After the sentence: where it was decided, the gates, the channels, the attempts."""
    found = decision(
        gates=(Gate(gate="known", passed=True, evidence="profile version 7"), Gate(gate="address", passed=True)),
        channels=(ChannelVerdict(channel="sms", allowed=True, reason="default of flights on sms"),),
        profile_version=7,
        template_version=3,
        locale="de",
    )  # fmt: skip
    why = Why(timelines=(Timeline(decision=found, courses=(course(attempts=(TRIED,)),)),))
    assert list(explain(why))[1:] == [
        "  decided 2026-03-08 12:00:00.000+00:00 at notification.events.normal[0]@0, profile version 7, template 3 de",
        "  passed  known: profile version 7",
        "  passed  address",
        "  channel sms: allowed, default of flights on sms",
        "  delivery d-1 sms to address a-1: delivered",
        (
            "    attempt 1 2026-03-08 12:00:00.000+00:00 vonage: throttled, 429, slow down, "
            "again from 2026-03-08 12:00:00.000+00:00 (10s), 31 ms"
        ),
    ]


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (None, "waits in the outbox since 2026-03-08 12:00:00.000+00:00"),
        ("no topic", "is parked in the outbox, Kafka cannot take it: no topic"),
    ],
)
def test_an_event_in_the_outbox_is_explained_too(error: str | None, words: str) -> None:
    """Before Kafka has it, the outbox says where it is."""
    row = Waiting(
        outbox_id="o-1", event_id="e-1", topic="notification.events.bulk", created_at=NOW, error=error
    )
    assert words in next(explain(Why(waiting=(row,))))


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"verdict": "held"}, "is held for later"),
        ({"verdict": "deliver"}, "its deliveries are not in the log yet"),
        ({"verdict": "rejected", "reason": "unreadable", "event_id": "", "user_id": "", "type": ""},
         "Event ? (unknown type) for nobody was not sent (rejected): its bytes cannot be read"),
    ],
)  # fmt: skip
def test_every_verdict_has_a_sentence(changes: dict[str, str], words: str) -> None:
    """No verdict leaves the reader without words."""
    assert words in sentence(Timeline(decision=decision(**changes)))


@pytest.mark.parametrize(
    ("version", "words"),
    [
        (None, "is recalled and will not be sent"),
        (3, "will not be sent if its words are then still of version 3"),
    ],
)
def test_a_recalled_hold_is_told_as_what_will_become_of_it(version: int | None, words: str) -> None:
    """Nobody waits for the day that it is due to learn which order ends it."""
    order = Recall(recall_id="r-1", tenant="acme", at=NOW, type="flight.cancelled", template_version=version)
    held = decision(verdict="held", reason="due")
    assert sentence(Timeline(decision=held, order=order)) == (
        f"Event e-1 (flight.cancelled) for acme/u-1 {words} (recall r-1 of 2026-03-08T12:00:00+00:00). "
        "Until it is due it is held: its time has not come."
    )


HELD = decision(verdict="held", reason="quiet_hours", due_at=NOW + timedelta(hours=8))
AGAIN = decision(
    verdict="held",
    reason="capped",
    source_topic="notification.released",
    source_offset=4,
    release_of="notification.events.normal/0/0",
    decided_at=NOW + timedelta(hours=8),
    due_at=NOW + timedelta(hours=9),
)
REPEAT = decision(
    verdict="duplicate",
    source_topic="notification.released",
    source_offset=5,
    release_of="notification.events.normal/0/0",
)
LAST = decision(
    source_topic="notification.released",
    source_offset=6,
    release_of="notification.released/0/4",
    decided_at=NOW + timedelta(hours=9),
)


@given(st.permutations([HELD, AGAIN, REPEAT, LAST, decision("e-2", source_offset=9)]))
def test_an_event_that_was_held_is_one_story(decisions: list[Decision]) -> None:
    """Held, held again, released twice, delivered: one entry, in whatever order the decisions come."""
    assert sorted(chains(decisions), key=lambda chain: chain[0].event_id) == [
        (LAST, (HELD, AGAIN)),
        (decision("e-2", source_offset=9), ()),
    ]


def test_a_story_ends_where_the_log_ends() -> None:
    """Still held, or the log no longer knows the event's own decision."""
    assert chains([AGAIN, HELD]) == [(AGAIN, (HELD,))]
    assert chains([LAST]) == [(LAST, ())]


def test_the_story_of_a_hold_is_told_from_its_end() -> None:
    """What became of it comes first, then each time that it was held; the details go by time."""
    timeline = Timeline(decision=LAST, earlier=(HELD, AGAIN), courses=(course(),))
    first, *details = explain(Why(timelines=(timeline,)))
    assert first == (
        "Event e-1 (flight.cancelled) for acme/u-1: delivered by sms. "
        "It was held from 2026-03-08 12:00:00.000+00:00 until 2026-03-08 20:00:00.000+00:00: the user sleeps. "
        "It was held from 2026-03-08 20:00:00.000+00:00 until 2026-03-08 21:00:00.000+00:00: "
        "the user has had as many of its category as may be."
    )
    assert [line.split("at ")[1] for line in details if "decided" in line] == [
        "notification.events.normal[0]@0",
        "notification.released[0]@4",
        "notification.released[0]@6",
    ]


def told(kind: str = "receipt", fate: str = "", category: str = "") -> Told:
    """What came back."""
    return Told(kind=kind, fate=fate, code="7" if fate else "", category=category, at=NOW)


@pytest.mark.parametrize(
    ("fates", "arrived"),
    [
        (("under_way", "failed"), False),
        (("dead_address",), False),
        (("failed", "delivered"), True),
        ((), True),
    ],
)
def test_what_a_provider_took_and_lost_is_said(fates: tuple[str, ...], arrived: bool) -> None:
    """A provider's yes is no arrival: a receipt that says no is part of the answer, if none says yes."""
    found = Timeline(decision=decision(), courses=(course(told=tuple(told(fate=fate) for fate in fates)),))
    assert ("did not arrive" not in sentence(found)) is arrived
    lines = list(explain(Why(timelines=(found,))))
    assert [line.split(" receipt, ")[1] for line in lines if "told" in line] == [
        f"{fate}, 7" for fate in fates
    ]


def test_an_unsubscribe_link_is_part_of_the_answer() -> None:
    """With the category that it ended."""
    found = Timeline(decision=decision(), courses=(course(told=(told("unsubscribe", category="offers"),)),))
    assert list(explain(Why(timelines=(found,))))[-1].endswith(" unsubscribe, category offers")
