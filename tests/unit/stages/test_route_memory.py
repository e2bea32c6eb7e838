"""What the router remembers: ids within the window, the latest decision about each, sends under a cap."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

from pipeline.model.decision import Decision, Planned
from pipeline.model.event import Channel
from pipeline.stages.route.decide import route
from pipeline.stages.route.facts import Arrival, Facts, Source
from pipeline.stages.route.memory import WINDOW, Memory, identity
from tests.support.log import decision
from tests.support.make import CATALOGUE, NEWS, NOW, event, profile

ID = identity("acme", "u-1", "e-1")
PLANNED = (Planned(delivery_id="d-1", channel="apns", address_id="a-1"),)


def learned(*decisions: Decision) -> Memory:
    """A memory of these."""
    memory = Memory()
    for one in decisions:
        memory.learn(one)
    return memory


def test_the_latest_decision_counts_whatever_day_it_was() -> None:
    """A hold of yesterday that was released today is no hold any more, in whatever order clocks say."""
    held = decision(verdict="held", decided_at=NOW)
    for later in (timedelta(days=1), -timedelta(days=1)):
        released = decision(
            verdict="deliver", source_topic="notification.released", release_of="x", decided_at=NOW + later
        )
        found = learned(held, released).decided(ID)
        assert found is not None
        assert (found.verdict, found.source.topic) == ("deliver", "notification.released")


def test_a_duplicate_renews_nothing_and_a_rejected_event_is_not_remembered() -> None:
    """What was rejected may come again, mended; a rejected release ends its hold."""
    first = decision(source_offset=1)
    memory = learned(first, decision(verdict="duplicate", source_offset=2))
    assert str(getattr(memory.decided(ID), "source", "")) == "notification.events.normal/0/1"
    assert memory.next_offset("notification.events.normal") == 3
    assert learned(decision(verdict="rejected")).decided(ID) is None
    found = learned(decision(verdict="held"), decision(verdict="rejected", release_of="x")).decided(ID)
    assert found is not None
    assert found.verdict == "rejected"


def test_what_left_the_window_is_forgotten() -> None:
    """Ids and sends of more than a week ago go, and what is younger stays."""
    old = decision(decided_at=NOW, deliveries=PLANNED, category="news", counters={"news/apns": 1})
    young = replace(old, event_id="e-2", decided_at=NOW + WINDOW)
    memory = learned(old, young)
    assert memory.decided(ID) is not None
    memory.learn(replace(old, event_id="e-3", decided_at=NOW + WINDOW + timedelta(days=1)))
    assert memory.decided(ID) is None
    assert len(memory.sent("acme", "u-1", "news", "apns")) == 2


def test_only_sends_with_a_counter_are_counted_once_a_channel() -> None:
    """Two phones are one disturbance; a channel without a cap costs no memory."""
    twice = (*PLANNED, replace(PLANNED[0], delivery_id="d-2"), replace(PLANNED[0], channel="sms"))
    memory = learned(decision(category="news", deliveries=twice, counters={"news/apns": 1}))
    assert memory.sent("acme", "u-1", "news", "apns") == [NOW]
    assert memory.sent("acme", "u-1", "news", "sms") == []


@given(waits=st.lists(st.integers(0, 90), max_size=40))
def test_caps_are_used_up_and_never_passed(waits: Sequence[int]) -> None:
    """Whatever the times: no window has more than its cap, and nothing is withheld while a slot is free."""
    memory, now = Memory(), NOW
    sent: dict[Channel, list[datetime]] = {"apns": [], "sms": []}
    for number, wait in enumerate(waits):
        now += timedelta(minutes=wait)
        arrival = Arrival(
            source=Source(topic="notification.events.normal", partition=0, offset=number),
            event=event(f"e-{number}", type="news.brief", created_at=now),
            raw=b"",
        )
        known: dict[Channel, list[datetime]] = {
            channel: memory.sent("acme", "u-1", "news", channel) for channel in NEWS.caps
        }
        ruling = route(arrival, Facts(decided=None, profile=profile(), catalogue=CATALOGUE, sent=known), now)
        memory.learn(ruling.decision)
        used = {planned.channel for planned in ruling.decision.deliveries}
        for channel, cap in NEWS.caps.items():
            recent = [at for at in sent[channel] if now - at < cap.window]
            assert (channel in used) == (len(recent) < cap.limit)
            if channel in used:
                sent[channel].append(now)
        if ruling.hold is not None:  # until the very moment at which a slot is free
            assert ruling.hold.due_at == sent["apns"][-2] + NEWS.caps["apns"].window
