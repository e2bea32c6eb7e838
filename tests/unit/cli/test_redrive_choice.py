"""What of a survey is driven again: everything that is lost, by name, and nothing that waits in line."""

from collections.abc import Collection, Sequence
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.cli.ledger.redrive import chosen, lost, released_first, spans
from pipeline.model.errors import ConfigurationError
from pipeline.model.ledger import Hole, balance
from pipeline.model.replay import Range
from pipeline.model.topics import HOLDS, RELEASED
from pipeline.model.watch import Stuck, Survey
from tests.support.make import NOW
from tests.unit.model.test_ledger import BOOKS, ENDS, EVENTS

SMS = "notification.deliver.sms.normal"


def stuck(kind: str, subject: str, topic: str, *, queued: bool = False, records: int = 1) -> Stuck:
    """Something that stands still."""
    return Stuck(
        kind=kind,  # pyright: ignore[reportArgumentType] - one of four words
        subject=subject,
        event_id="" if kind == "undecided" else f"event of {subject}",
        since=NOW,
        topic=topic,
        written=NOW,
        queued=queued,
        records=records,
    )


SURVEY = Survey(
    ledger=balance(replace(BOOKS, holes=(Hole(topic=EVENTS, partition=0, first=3, last=4),)), ENDS),
    stuck=(
        stuck("undecided", f"{EVENTS}/0/9", EVENTS, records=2),
        stuck("undecided", f"{EVENTS}/1/5", EVENTS, queued=True),
        stuck("held", f"{EVENTS}/2/1", HOLDS),
        stuck("delivery", "d-1", SMS),
        stuck("delivery", "d-2", SMS, queued=True),
        stuck("outbox", "o-1", "outbox", queued=True),
    ),
)


def test_all_that_is_lost_is_meant() -> None:
    """What later events have overtaken too, which the ledger names."""
    found = lost(SURVEY)
    assert [one.subject for one in found.single] == [f"{EVENTS}/2/1", "d-1"]
    assert [(one.place, one.end) for one in found.parts] == [(f"{EVENTS}/0/3", 5), (f"{EVENTS}/0/9", 11)]
    assert found.count == 6
    assert released_first(found) == found


def test_each_is_found_by_its_names() -> None:
    """Id, event or place; what is not lost is nobody's to drive."""
    found = lost(SURVEY)
    for id in ("d-1", "event of d-1"):
        assert [one.subject for one in chosen(found, [id], nowhere).single] == ["d-1"]
    only = chosen(found, [f"{EVENTS}/0/9", f"event of {EVENTS}/2/1"], nowhere)
    assert ([one.first for one in only.parts], [one.kind for one in only.single]) == ([9], ["held"])
    for id in ("d-2", "o-1", f"{EVENTS}/0/4", f"{EVENTS}/1/5"):
        with pytest.raises(ConfigurationError, match=f"nothing that is lost is named {id}"):
            chosen(found, ["d-1", id], nowhere)


def nowhere(ids: Collection[str]) -> Sequence[tuple[str, Range]]:
    """The parts have no such event."""
    assert ids
    return ()


def test_an_event_is_found_in_its_part() -> None:
    """It alone; one whose whole part is meant as well is meant once."""
    found = lost(SURVEY)
    inner, other = (Range(topic=EVENTS, partition=0, first=n, end=n + 1) for n in (4, 10))

    def find(ids: Collection[str]) -> Sequence[tuple[str, Range]]:
        return [one for one in (("e-4", inner), ("e-10", other)) if one[0] in ids]

    assert chosen(found, ["e-10"], find).parts == (other,)
    assert chosen(found, ["e-4", "e-10", f"{EVENTS}/0/3"], find).parts == (found.parts[0], other)


def test_a_release_that_was_passed_goes_before_the_hold_that_it_ended() -> None:
    """Of the same partition number, for nobody knows whose it is; the others go."""
    passed = stuck("undecided", f"{RELEASED}/2/7", RELEASED)
    other = stuck("held", f"{EVENTS}/1/1", HOLDS)
    found = released_first(lost(replace(SURVEY, stuck=(*SURVEY.stuck, passed, other))))
    assert [one.subject for one in found.single] == ["d-1", other.subject]
    assert found.parts[-1].place == passed.subject


@given(st.lists(st.tuples(st.integers(0, 2), st.integers(0, 30), st.integers(1, 5))))
def test_a_partition_has_one_span_around_its_parts(parts: list[tuple[int, int, int]]) -> None:
    """From the first record to the last."""
    ranges = [Range(topic=EVENTS, partition=p, first=o, end=o + n) for p, o, n in parts]
    found = {one.partition: one for one in spans(ranges)}
    assert found.keys() == {one.partition for one in ranges}
    for number, span in found.items():
        own = [one for one in ranges if one.partition == number]
        assert (span.first, span.end) == (min(one.first for one in own), max(one.end for one in own))
