"""What the router remembers: ids within the window, the latest decision about each, sends under a cap."""

from collections.abc import Sequence
from datetime import datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.model import window
from pipeline.model.decision import Decision, Planned
from pipeline.model.errors import Unreadable
from pipeline.model.event import Channel
from pipeline.model.moment import moment, ms
from pipeline.model.topics import RELEASED, events
from pipeline.model.window import SOURCES, VERDICTS, WINDOW, Entry, Page
from pipeline.stages.route.decide import route
from pipeline.stages.route.facts import Arrival, Facts, Source
from pipeline.stages.route.records import counter, remember
from pipeline.stages.route.state import RouterState
from tests.support.log import decision
from tests.support.make import CATALOGUE, NEWS, NOW, event, profile
from tests.support.routing import MemoryStore, state

KEY = b"acme/u-1"
ID = window.identity(KEY, b"e-1")
PLANNED = (Planned(delivery_id="d-1", channel="apns", address_id="a-1"),)


def page(*decisions: Decision) -> Page:
    """What these add to the window."""
    made = Page()
    for one in decisions:
        remember(made, one)
    return made


def learned(*decisions: Decision) -> RouterState:
    """A state that knows these."""
    known = state(lambda: NOW)
    for number, one in enumerate(decisions):
        known.learn({0: page(one)}, {0: number})
    return known


def entry(known: RouterState, now: datetime = NOW) -> Entry | None:
    """What it knows of the id."""
    found = known.decided(0, ID, ms(now))
    return None if found is None else window.unpack(found)


def test_the_latest_decision_counts_whatever_time_it_was() -> None:
    """A hold of yesterday that was released today is no hold any more, in whatever order clocks say."""
    held = decision(verdict="held", decided_at=NOW)
    for later in (timedelta(days=1), -timedelta(days=1)):
        released = decision(verdict="deliver", source_topic=RELEASED, release_of="x", decided_at=NOW + later)
        found = entry(learned(held, released))
        assert found is not None
        assert (found.verdict, found.topic) == ("deliver", RELEASED)


def test_a_duplicate_renews_nothing_and_a_rejected_event_is_not_remembered() -> None:
    """What was rejected may come again, mended; a rejected release ends its hold."""
    known = learned(decision(source_offset=1), decision(verdict="duplicate", source_offset=2))
    found = entry(known)
    assert found is not None
    assert (found.topic, found.offset) == (events("normal"), 1)
    assert known.next_offset(events("normal"), 0) == 3
    assert known.next_offset(events("urgent"), 0) == 0
    assert entry(learned(decision(verdict="rejected"))) is None
    found = entry(learned(decision(verdict="held"), decision(verdict="rejected", release_of="x")))
    assert found is not None
    assert found.verdict == "rejected"


def test_what_left_the_window_is_forgotten() -> None:
    """An id counts for a week to the millisecond, and a counter keeps no send that is older than that."""
    known = learned(decision(decided_at=NOW))
    assert entry(known, NOW + WINDOW) is not None
    assert entry(known, NOW + WINDOW + timedelta(milliseconds=1)) is None
    sends = [
        decision(decided_at=at, deliveries=PLANNED, category="news", counters={"news/apns": 1})
        for at in (NOW, NOW + timedelta(days=1), NOW + WINDOW)
    ]
    assert learned(*sends).sent(0, counter(KEY, "news", "apns")) == [ms(s.decided_at) for s in sends[1:]]


def test_the_store_is_swept_of_what_left_the_window() -> None:
    """Half a day later the next batch removes old ids and counters, and keeps young ones and the marker."""
    store, clock = MemoryStore(), [NOW]
    known = state(lambda: clock[0], store=store)
    capped = decision(deliveries=PLANNED, category="news", counters={"news/apns": 1}, decided_at=NOW)
    known.learn({0: page(capped)}, {0: 0})
    clock[0] = NOW + WINDOW + timedelta(seconds=1)
    known.learn({0: page(decision(event_id="e-2", decided_at=clock[0]))}, {0: 1})
    assert set(store.rows) == {(0, b""), (0, window.identity(KEY, b"e-2"))}


def test_only_sends_with_a_counter_are_counted_once_a_channel() -> None:
    """Two phones are one disturbance; a channel without a cap costs no memory."""
    twice = (*PLANNED, Planned(delivery_id="d-2", channel="apns", address_id="a-2"))
    planned = (*twice, Planned(delivery_id="d-3", channel="sms", address_id="a-3"))
    known = learned(decision(category="news", deliveries=planned, counters={"news/apns": 1}))
    assert known.sent(0, counter(KEY, "news", "apns")) == [ms(NOW)]
    assert known.sent(0, counter(KEY, "news", "sms")) == []


def test_a_store_that_is_ahead_of_the_log_is_of_another_one() -> None:
    """A topic that was emptied makes the router read anew instead of waiting for offsets that never come."""
    store = MemoryStore()
    pages = [page(decision(source_offset=n)).encode() for n in range(3)]
    assert entry(state(lambda: NOW, pages, store)) is not None
    assert entry(state(lambda: NOW, [], store)) is None


@given(cuts=st.lists(st.integers(0, 5), max_size=4), lost=st.booleans())
def test_a_restart_knows_what_a_run_without_one_knows(cuts: Sequence[int], lost: bool) -> None:
    """Wherever processes end, with their disk or without: the same ids, sends and next offsets."""
    made = [
        decision(
            source_offset=n,
            event_id=f"e-{n % 3}",
            deliveries=PLANNED,
            category="news",
            counters={"news/apns": 1},
        )
        for n in range(6)
    ]
    pages = [page(one).encode() for one in made]
    store, whole = MemoryStore(), MemoryStore()
    for end in sorted(cuts):
        store = MemoryStore() if lost else store
        state(lambda: NOW, pages[:end], store)
    assert state(lambda: NOW, pages, store).next_offset(events("normal"), 0) == 6
    state(lambda: NOW, pages, whole)
    assert store.rows == whole.rows


entries = st.dictionaries(
    st.binary(min_size=16, max_size=16),
    st.builds(
        window.pack,
        st.sampled_from(SOURCES),
        st.integers(0, 2**62),
        st.sampled_from(VERDICTS),
        st.integers(0, 2**45),
        st.sampled_from([b"", b"12345678"]),
    ),
    max_size=5,
)


@given(
    entries=entries,
    sends=st.dictionaries(
        st.binary(min_size=16, max_size=16), st.lists(st.integers(0, 2**45), min_size=1), max_size=3
    ),
    decided=st.lists(st.tuples(st.sampled_from(SOURCES), st.integers(0, 99)), max_size=4),
    cut=st.integers(0, 200),
)
def test_a_page_is_read_as_it_was_written(
    entries: dict[bytes, bytes], sends: dict[bytes, list[int]], decided: list[tuple[str, int]], cut: int
) -> None:
    """Ids, sends and next offsets come back; what is cut off in the middle is refused, not half believed."""
    written = Page(entries=entries, sends=sends)
    for topic, offset in decided:
        written.decided(topic, offset)
    value = written.encode()
    assert window.decode(value) == written
    if cut and cut % 24 and cut < len(value):
        with pytest.raises(Unreadable):
            window.decode(value[: len(value) - cut])


@given(waits=st.lists(st.integers(0, 90), max_size=40))
def test_caps_are_used_up_and_never_passed(waits: Sequence[int]) -> None:
    """Whatever the times: no window has more than its cap, and nothing is withheld while a slot is free."""
    known, now = state(lambda: NOW), NOW
    sent: dict[Channel, list[datetime]] = {"apns": [], "sms": []}
    for number, wait in enumerate(waits):
        now += timedelta(minutes=wait)
        arrival = Arrival(
            source=Source(topic=events("normal"), partition=0, offset=number),
            event=event(f"e-{number}", type="news.brief", created_at=now),
            raw=b"",
        )
        before: dict[Channel, list[datetime]] = {
            channel: [moment(at) for at in known.sent(0, counter(KEY, "news", channel))]
            for channel in NEWS.caps
        }
        ruling = route(arrival, Facts(decided=None, profile=profile(), catalogue=CATALOGUE, sent=before), now)
        known.learn({0: page(ruling.decision)}, {0: number})
        used = {planned.channel for planned in ruling.decision.deliveries}
        for channel, cap in NEWS.caps.items():
            recent = [at for at in sent[channel] if now - at < cap.window]
            assert (channel in used) == (len(recent) < cap.limit)
            if channel in used:
                sent[channel].append(now)
        if ruling.hold is not None:  # until the very moment at which a slot is free
            assert ruling.hold.due_at == sent["apns"][-2] + NEWS.caps["apns"].window
