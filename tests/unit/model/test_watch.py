"""The watch: where a thing is that stands still, and what of it an operator is told."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.model import watch
from pipeline.model.ladder import TIERS
from pipeline.model.ledger import balance
from pipeline.model.topics import DECISIONS, HOLDS, OUTCOMES, RELEASED, retry
from pipeline.model.watch import Held, Hour, Late, Open, Stop, Stuck, Survey
from tests.support.make import NOW
from tests.unit.model.test_ledger import BOOKS, ENDS

EVENTS, SMS = "notification.events.normal", "notification.deliver.sms.normal"
HOUR = timedelta(hours=1)
OPEN = Open(
    delivery_id="d-1", event_id="e-1", tenant="acme", channel="sms", lane="normal", attempt=0, tier="", at=NOW, since=NOW
)  # fmt: skip
HELD = Held(
    topic=EVENTS, partition=1, offset=7, event_id="e-1", tenant="acme", at=NOW, due_at=NOW + HOUR, timer=False
)


def reads(*topics: str) -> watch.Passed:
    """The readers of these have come to the end, the others have read nothing."""
    return lambda stop: stop.topic in topics


def topics(way: Sequence[Stop]) -> list[str]:
    """In order."""
    return [stop.topic for stop in way]


def test_a_delivery_waits_in_the_first_topic_that_is_not_read_far_enough() -> None:
    """First for its sender, then for the account stage; when both have passed it, it is lost."""
    first, second, lost = (watch.delivery(OPEN, reads(*read)) for read in ((), (SMS,), (SMS, OUTCOMES)))
    assert (first.topic, first.queued) == (SMS, True)
    assert (second.topic, second.queued) == (OUTCOMES, True)
    assert (lost.topic, lost.queued) == (SMS, False)
    assert str(lost) == (
        "delivery d-1 of event e-1 of tenant acme: nothing since 2026-03-08T12:00:00+00:00, last seen on "
        "notification.deliver.sms.normal, which was read past it: it is lost"
    )


def test_who_waits_for_an_attempt_goes_by_its_tier() -> None:
    """The tier up to when it was written there, then whatever came to the channel since."""
    one = replace(OPEN, attempt=1, tier="1m", since=NOW + timedelta(minutes=1))
    assert topics(one.way) == [retry("1m"), SMS, OUTCOMES]
    assert [stop.until is None for stop in one.way] == [False, True, True]
    assert one.way[0].until == NOW + timedelta(seconds=60)
    assert watch.delivery(one, reads(SMS, OUTCOMES)).topic == retry("1m")


def test_who_goes_round_in_the_longest_tier_may_be_in_every_other() -> None:
    """A provider asked for more than six hours: the rest of the wait is in a shorter tier."""
    one = replace(OPEN, attempt=5, tier="6h", since=NOW + 9 * HOUR)
    assert set(topics(one.way)) == {retry(tier.name) for tier in TIERS} | {SMS, OUTCOMES}
    assert one.way[0].until == NOW + 9 * HOUR


@given(st.sets(st.sampled_from([HOLDS, RELEASED, DECISIONS])), st.booleans())
def test_a_held_event_is_with_its_timer_or_on_its_way(read: set[str], timer: bool) -> None:
    """With a timer it is the hold stage's; without, it is lost only when all three topics were read."""
    found = watch.held(replace(HELD, timer=timer), reads(*read))
    assert found.queued == (timer or len(read) < 3)
    assert (found.topic == watch.TIMERS) == timer
    assert found.since == HELD.due_at


def test_what_is_undecided_is_one_thing_a_partition() -> None:
    """From the next offset to decide up to what was written too recently to be late."""
    heads, begins = {(EVENTS, 0): 4, (EVENTS, 1): 9}, {(EVENTS, 0): 0, (EVENTS, 2): 3}
    found = watch.late(heads, begins, {(EVENTS, 0): 10, (EVENTS, 1): 9, (EVENTS, 2): 5}, NOW)
    assert found == (Late(EVENTS, 0, 4, 6, NOW), Late(EVENTS, 2, 3, 2, NOW))
    assert "undecided notification.events.normal/0/4 and 5 after it" in str(
        watch.undecided(found[0], reads())
    )
    assert watch.undecided(found[0], reads(EVENTS)).topic == DECISIONS
    assert not watch.undecided(found[0], reads(EVENTS, DECISIONS)).queued


def stuck(id: str, topic: str, *, queued: bool, minutes: int) -> Stuck:
    """A delivery."""
    return Stuck(
        kind="delivery",
        subject=id,
        since=NOW + timedelta(minutes=minutes),
        topic=topic,
        written=NOW,
        queued=queued,
    )


def test_an_outage_is_told_in_one_line_and_a_loss_in_one_each() -> None:
    """What waits in one line is one thing to know; what is lost has names."""
    waiting = [stuck(f"d-{n}", SMS, queued=True, minutes=9 - n) for n in range(3)]
    lost = [stuck(f"l-{n}", SMS, queued=False, minutes=n) for n in range(2)]
    found = Survey(ledger=balance(BOOKS, ENDS), stuck=(*waiting, *lost))
    assert list(found.told) == ["delivery l-0", "delivery l-1", f"delivery on {SMS}"]
    assert found.told[f"delivery on {SMS}"].startswith("delivery d-2: ")
    assert found.told[f"delivery on {SMS}"].endswith("it waits in line there; so do 2 more")
    assert (found.lost, found.sound) == (tuple(lost), False)


@pytest.mark.parametrize(("final", "sound"), [(7, True), (6, False)])
def test_every_hour_has_to_balance(final: int, sound: bool) -> None:
    """A tenant's events of one hour that are neither final nor in flight are named."""
    hour = Hour(tenant="acme", hour=NOW, accepted=10, final=final, in_flight=3)
    found = Survey(ledger=balance(BOOKS, ENDS), hours=(hour,))
    assert found.sound == sound
    assert (
        "tenant acme, 2026-03-08T12:00:00+00:00: 1 of 10 events are missing" in found.told.values()
    ) != sound
    assert found.as_json()["hours"][0]["missing"] == 7 - final
