"""The short way writes what the long way would have written, byte for byte."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import time, timedelta
from typing import Any
from unittest.mock import patch

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.adapters.wire.codec import Wire
from pipeline.adapters.wire.ids import LockFile
from pipeline.model import avro
from pipeline.model.event import CHANNELS, Event
from pipeline.model.profile import Profile
from pipeline.model.recall import Recall, Recalls
from pipeline.model.record import Incoming, Records, Written, unpack
from pipeline.model.topics import DECISIONS, events
from pipeline.ports import UserKey
from pipeline.stages.route import express, native, step
from pipeline.stages.route import people as people_module
from pipeline.stages.route.express import Decide, Express
from pipeline.stages.route.step import Router, decide_batch
from tests.support.make import NOW, event, profile
from tests.support.routing import router, state

WIRE = Wire(LockFile())


def by_the_long_way(_express: Express, _rules: object, _head: bytes) -> Decide:
    """Every event goes through the gates."""
    return lambda _at: False


def interpreted(express: Express, _rules: object, _head: bytes) -> Decide:
    """The short way as it is where nothing could be compiled."""
    return express.decide


WAYS = (native.decider, interpreted, by_the_long_way)
RECALLS = Recalls([Recall(recall_id="r-1", tenant="acme", at=NOW, collapse_key="k")])
letters = st.characters(codec="utf-8")
# Some longer than a block of the digests (64 and 128 bytes), and than a variable may be (2,000 characters).
words = st.text(letters, max_size=20) | st.text(letters, max_size=20).map(lambda text: text * 110)
moments = st.sampled_from([-30, -7, -2, 0, 1]).map(lambda hours: NOW + timedelta(hours=hours))
event_values: st.SearchStrategy[Event] = st.builds(
    event,
    event_id=st.sampled_from(["a", "b", "c", "ü%b", "x" * 128, "x" * 129, "", "two\nlines"]),
    user_id=st.sampled_from(["u-1", "u-2", "nobody", "ünï"]),
    type=st.sampled_from(["flight.cancelled", "news.brief", "seat.free", "account.code", "no.such"]),
    priority=st.sampled_from(["urgent", "normal", "bulk"]),
    created_at=moments,
    expires_at=st.none() | moments,
    deliver_at=st.none() | moments,
    channels=st.none() | st.lists(st.sampled_from(CHANNELS), max_size=2).map(tuple),
    collapse_key=st.none() | st.sampled_from(["k", "k-2"]),
    locale=st.sampled_from([None, None, "de-AT", "fr"]),
    traceparent=st.sampled_from([None, "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"]),
    data=st.just({"flight": "UA 1018"})
    | st.fixed_dictionaries(
        {"flight": words},
        optional={
            "minutes": st.integers(-(2**63), 2**63 - 1) | st.floats() | st.booleans() | st.none(),
            "other": words,
            "ünï": words,
        },
    ),
)
profiles: st.SearchStrategy[Profile] = st.builds(
    profile,
    channels=st.lists(st.sampled_from(CHANNELS), max_size=4),
    version=st.integers(1, 2**40),
    locale=st.sampled_from(["en", "de"]),
    enabled=st.sampled_from([True, True, True, False]),
    quiet_from=st.none() | st.just(time(11)),
    quiet_until=st.just(time(13)),
    timezone=st.sampled_from(["UTC", "Asia/Tokyo", "Mars/Olympus"]),
    preferences=st.dictionaries(
        st.tuples(st.sampled_from(["flights", "news", ""]), st.sampled_from(["sms", "apns"])), st.booleans()
    ),
    tenant_defaults=st.dictionaries(st.just(("flights", "")), st.booleans()),
).map(lambda p: p if p.quiet_from else replace(p, quiet_until=None))


def answers(people: Mapping[str, Profile]) -> Any:
    """A fetch that knows these."""

    def fetch(users: Sequence[UserKey]) -> Mapping[UserKey, Profile]:
        known = {user: people[user[1]] for user in users if user[1] in people}
        return {user: replace(one, user_id=user[1]) for user, one in known.items()}

    return fetch


def decided(working: Router, batches: Sequence[Sequence[Incoming]]) -> list[tuple[Written, Any]]:
    """What each batch comes to, committed."""
    done: list[tuple[Written, Any]] = []
    for number, batch in enumerate(batches):
        work = decide_batch(working, Records.of(batch))
        working.state.learn(work.batch.pages, dict.fromkeys(work.batch.pages, number))
        done.append((work.written, work.verdicts))
    return done


def records(
    batches: Sequence[Sequence[Event | bytes]], topic: str = events("normal")
) -> list[list[Incoming]]:
    """The records in which the events come."""
    made: list[list[Incoming]] = []
    offset = 0
    for batch in batches:
        made.append([])
        for what in batch:
            key, value = (what.key, WIRE.encode(what)) if isinstance(what, Event) else (b"acme/u-1", what)
            made[-1].append(Incoming(topic=topic, partition=0, offset=offset, key=key, value=value, at=NOW))
            offset += 1
    return made


@given(
    batches=st.lists(st.lists(event_values, max_size=8), min_size=1, max_size=4),
    people=st.fixed_dictionaries({"u-1": profiles, "u-2": profiles, "ünï": profiles}),
    recalls=st.sampled_from([Recalls(), RECALLS]),
    damage=st.none() | st.tuples(st.integers(0, 200), st.integers(0, 255)),
)
@settings(max_examples=400, deadline=None)
def test_all_ways_write_the_same_bytes(
    batches: list[list[Event]],
    people: Mapping[str, Profile],
    recalls: Recalls,
    damage: tuple[int, int] | None,
) -> None:
    """Whatever events, people and orders there are, also where a byte of the first event is damaged."""
    arrived = records(batches)
    if damage is not None and arrived[0]:
        at, byte = damage
        value = bytearray(arrived[0][0].value or b"")
        value[at % len(value)] = byte
        arrived[0][0] = replace(arrived[0][0], value=bytes(value))
    found: list[Any] = []
    for way in WAYS:
        working = router(
            lambda: NOW, answers(people), WIRE, recalls=lambda: recalls, known=state(lambda: NOW)
        )
        with patch.object(step, "decider", way):
            found.append(decided(working, arrived))
    assert all(one == found[0] for one in found[1:])


FLIGHT, LATE = b"\x0cflight\x08\x0eUA 1018", b"\x0eminutes\x04\x08"


@pytest.mark.parametrize(
    "variables",
    [
        pytest.param(b"\x02" + FLIGHT + b"\x02" + LATE + b"\0", id="in two blocks"),
        pytest.param(b"\x01" + avro.long(len(FLIGHT)) + FLIGHT + b"\0", id="in a block with its size"),
        pytest.param(b"\x04" + FLIGHT + FLIGHT + b"\0", id="a name twice"),
        pytest.param(b"\x82\0" + FLIGHT + b"\0", id="a number in more bytes than it needs"),
        pytest.param(b"\x04" + LATE + FLIGHT + b"\0", id="in another order"),
        pytest.param(b"\x04" + FLIGHT + b"\0", id="cut off"),
        pytest.param(b"\x02" + FLIGHT + b"\0\0", id="something left over"),
        pytest.param(b"\x02" + FLIGHT.replace(b"UA", b"\xff\xfe") + b"\0", id="no UTF-8"),
    ],
)
def test_unusual_encodings_are_read_alike(variables: bytes) -> None:
    """What another Avro library may write, or a damaged one, is decided the same by all ways; and its repeat."""
    whole = WIRE.encode(event(data={"flight": "UA 1018"}))
    usual = b"\x02" + FLIGHT + b"\0"
    assert whole.endswith(usual)
    odd = whole.removesuffix(usual) + variables
    found: list[Any] = []
    for way in WAYS:
        with patch.object(step, "decider", way):
            found.append(
                decided(router(lambda: NOW, answers({"u-1": profile()}), WIRE), records([[odd, whole, odd]]))
            )
    assert found[0] == found[1] == found[2]


@pytest.mark.parametrize("way", WAYS[:2])
def test_ordinary_events_take_the_short_way(way: Any) -> None:
    """Of events and repeats of ten people of one shape, one event and one repeat go through the gates."""
    people = {f"u-{n}": profile() for n in range(10)}
    batch = [event(event_id=f"e-{n}-{m}", user_id=f"u-{n}") for n in range(10) for m in range(5)]
    working = router(lambda: NOW, answers(people), WIRE)
    with patch.object(step, "_by_the_long_way", None), patch.object(step, "decider", way):
        ((done, verdicts),) = decided(working, records([[*batch, *batch]]))
    assert verdicts == {"deliver": 50, "duplicate": 50}
    assert len(list(unpack(done.packed[DECISIONS]))) == 100


def test_an_address_that_looks_like_a_mark_is_not_mistaken_for_one() -> None:
    """Whoever knows the marks and hides them in a profile gets their own words back."""
    mark = "mark-6f1a3c52-7d0e-4c0e-9d0a-event"
    hostile = profile(timezone=mark, locale=mark, quiet_from=time(1), quiet_until=time(2))
    batches = [[event(event_id="a"), event(event_id="b", locale=mark)]]
    found: list[Any] = []
    for way in WAYS:
        with patch.object(step, "decider", way):
            found.append(decided(router(lambda: NOW, answers({"u-1": hostile}), WIRE), records(batches)))
    assert found[0] == found[1] == found[2]


def test_quiet_hours_that_begin_are_seen() -> None:
    """A pattern made by day does not pass at night."""
    sleeper = profile(quiet_from=time(13), quiet_until=time(14))
    clock = [NOW]
    working = router(lambda: clock[0], answers({"u-1": sleeper}), WIRE)
    first, second = records([[event(event_id="a")], [event(event_id="b")]])
    assert decided(working, [first])[0][1] == {"deliver": 1}
    clock[0] = NOW + timedelta(hours=1)
    assert decided(working, [second])[0][1] == {"held": 1}


def test_what_is_remembered_of_people_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """More people, shapes and languages than are kept change no decision."""
    for name in ("_MANY", "_SHAPES"):
        monkeypatch.setattr(people_module, name, 2)
    monkeypatch.setattr(express, "_PATTERNS", 2)
    people = {f"u-{n}": profile(locale=f"l-{n}") for n in range(6)}
    batches = [
        [event(event_id=f"e-{n}-{m}", user_id=f"u-{n}", locale=f"l-{m}") for n in range(6) for m in range(4)]
        for _ in range(2)
    ]
    working = router(lambda: NOW, answers(people), WIRE)
    done = decided(working, records(batches))
    assert [verdicts for _, verdicts in done] == [{"deliver": 24}, {"duplicate": 24}]
