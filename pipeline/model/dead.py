"""Dead letters: what is given up, kept as it came, with its reason and origin in the headers.

Key, value bytes and foreign headers stay untouched, so that a replay sees what the stage saw. The
names are those of the broker's own dead-letter queue (KIP-1191), and three of ours under the same
prefix. Numbers are UTF-8 text. No stack trace and no address: a dead letter is read by people.
"""

from dataclasses import dataclass
from typing import Literal

from pipeline.model.record import Headers, Incoming, Outgoing
from pipeline.model.topics import DEAD

Disposition = Literal[
    "unreadable",  # the bytes are no record of ours
    "invalid",  # an event with wrong fields that came past the door
    "unrenderable",  # template and event do not make words
    "permanent",  # the provider will never take this message
    "invalid_address",  # the provider says that the address is dead
    "exhausted",  # every rung of the retry ladder was used
    "uncertain",  # it may have gone out, and the channel cannot repeat it without ringing twice
]
PREFIX = "__dlq.errors."
_MAX_MESSAGE = 1_000  # characters: the broker counts headers towards its 1 MB limit


@dataclass(frozen=True, slots=True, kw_only=True)
class Cause:
    """Why a record is given up."""

    disposition: Disposition
    message: str  # in words, no address
    error: str = ""  # class of the exception, empty when none was raised
    attempts: int = 1  # how often it was tried


def dead_headers(source: Incoming, cause: Cause, *, group: str, stage: str) -> Headers:
    """The headers of a dead letter: the source's own, then where it came from and why it is here.

    Earlier `__dlq.errors.*` (of a letter that was replayed and died again) give way to the new ones.
    """
    facts = {
        "topic": source.topic,
        "partition": str(source.partition),
        "offset": str(source.offset),
        "group": group,
        "delivery.count": str(cause.attempts),
        "message": cause.message[:_MAX_MESSAGE],
        "stage": stage,
        "exception.class.name": cause.error,
        "disposition": cause.disposition,
    }
    kept = tuple(header for header in source.headers if not header[0].startswith(PREFIX))
    return kept + tuple((PREFIX + name, fact.encode(errors="replace")) for name, fact in facts.items())


def dead_letter(source: Incoming, cause: Cause, *, group: str, stage: str) -> Outgoing:
    """The record for `notification.dead`."""
    return Outgoing(
        topic=DEAD,
        key=source.key,
        value=source.value,
        headers=dead_headers(source, cause, group=group, stage=stage),
    )
