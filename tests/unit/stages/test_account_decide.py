"""A batch of the account stage is sorted by what its records are."""

from pipeline.adapters.wire.codec import Wire
from pipeline.adapters.wire.ids import LockFile
from pipeline.model.record import Incoming
from pipeline.model.topics import DEAD, DECISIONS, OUTCOMES
from pipeline.stages.account.decide import read
from tests.support.log import decision, outcome
from tests.support.make import NOW

WIRE = Wire(LockFile())


def record(topic: str, value: bytes | None, offset: int = 0) -> Incoming:
    """A record of partition 3."""
    return Incoming(topic=topic, partition=3, offset=offset, key=b"acme/u-1", value=value, at=NOW)


def test_decisions_and_outcomes_are_told_apart_by_topic() -> None:
    """Both come in one batch and keep their order."""
    found = read(
        [
            record(OUTCOMES, WIRE.encode(outcome("d-1"))),
            record(DECISIONS, WIRE.encode(decision("e-1"))),
            record(OUTCOMES, WIRE.encode(outcome("d-2"))),
        ],
        WIRE,
    )
    assert found.decisions == [decision("e-1")]
    assert found.outcomes == [outcome("d-1"), outcome("d-2")]
    assert found.dead == []


def test_what_nobody_can_read_becomes_a_dead_letter() -> None:
    """A damaged record, an empty one, and one of the wrong schema are kept with their origin."""
    bad = [
        record(OUTCOMES, b"\x01raw", 7),
        record(DECISIONS, None, 8),
        record(DECISIONS, WIRE.encode(outcome("d-1")), 9),
    ]
    found = read(bad, WIRE)
    assert (found.decisions, found.outcomes) == ([], [])
    assert [(dead.topic, dead.value) for dead in found.dead] == [(DEAD, one.value) for one in bad]
    headers = dict(found.dead[0].headers)
    assert headers["__dlq.errors.topic"] == OUTCOMES.encode()
    assert headers["__dlq.errors.offset"] == b"7"
    assert headers["__dlq.errors.stage"] == b"account"
