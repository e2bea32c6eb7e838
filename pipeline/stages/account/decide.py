"""What a batch of records says: decisions, outcomes, engagements, and what nobody can read. Pure."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol, TypeVar

from pipeline.model.dead import Cause, dead_letter
from pipeline.model.decision import Decision
from pipeline.model.engagement import Engagement
from pipeline.model.errors import Unreadable
from pipeline.model.outcome import Outcome
from pipeline.model.record import Incoming, Outgoing
from pipeline.model.topics import DECISIONS, ENGAGEMENT

GROUP = "everpost.account"
R = TypeVar("R", Decision, Outcome, Engagement)


class Decoder(Protocol):
    """The half of the port `Codec` that is needed here."""

    def decode(self, cls: type[R], value: bytes | None) -> R:
        """The record in the bytes. Raises Unreadable."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Read:
    """A batch, read."""

    decisions: list[Decision] = field(default_factory=list[Decision])
    outcomes: list[Outcome] = field(default_factory=list[Outcome])
    engagements: list[Engagement] = field(default_factory=list[Engagement])
    dead: list[Outgoing] = field(default_factory=list[Outgoing])  # for notification.dead


def read(batch: Sequence[Incoming], decoder: Decoder) -> Read:
    """Sort a batch by what its records are; a record that nobody can read becomes a dead letter."""
    found = Read()
    for record in batch:
        try:
            if record.topic == DECISIONS:
                found.decisions.append(decoder.decode(Decision, record.value))
            elif record.topic == ENGAGEMENT:
                found.engagements.append(decoder.decode(Engagement, record.value))
            else:
                found.outcomes.append(decoder.decode(Outcome, record.value))
        except Unreadable as error:
            cause = Cause(disposition="unreadable", message=str(error), error=type(error).__name__)
            found.dead.append(dead_letter(record, cause, group=GROUP, stage="account"))
    return found
