"""The table of topics holds what the rest of everpost rests on."""

from typing import get_args

import pytest

from pipeline.model.event import LANES
from pipeline.model.topics import DECISIONS, HOLDS, RELEASED, Schema, events, table


def test_a_decision_stands_in_the_partition_number_of_its_event() -> None:
    """Events, holds, releases and decisions have equally many partitions, whatever is configured."""
    of = {topic.name: topic.partitions for topic in table(7)}
    assert {of[name] for name in (*map(events, LANES), HOLDS, RELEASED, DECISIONS)} == {7}


def test_a_decision_outlives_what_it_was_decided_from() -> None:
    """A router that restores from the decisions knows every id that can still be read again."""
    of = {topic.name: topic.retention for topic in table()}
    assert all(of[DECISIONS] > of[name] for name in (*map(events, LANES), HOLDS, RELEASED))


@pytest.mark.parametrize("schema", get_args(Schema))
def test_every_schema_has_a_topic(schema: str) -> None:
    """So every record has a subject under which a registry can be asked for its id."""
    assert any(topic.schema == schema for topic in table())


def test_no_topic_stands_there_twice() -> None:
    """Names and subjects are unique."""
    assert len({topic.subject for topic in table()}) == len(table())
