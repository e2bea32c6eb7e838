"""Dead letters: what is given up, kept as it came, with its reason and origin in the headers.

Key, value bytes and foreign headers stay untouched, so that a replay sees what the stage saw. The
names are those of the broker's own dead-letter queue (KIP-1191: topic, partition, offset, group,
delivery.count, message), and ours under the same prefix; `schemas/README.md` lists them. Numbers are
UTF-8 text. No stack trace and no address: a dead letter is read by people.
"""

import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Literal, NamedTuple

from pipeline.model.moment import moment, ms
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
# On a record that was replayed: they travel with it through every retry, and into its next dead letter.
REPLAY = "__dlq.replay."
REPLAY_RUN, REPLAY_COUNT = REPLAY + "run", REPLAY + "count"
REPLAY_AS_OF = REPLAY + "as.of"
AS_OF_DECISION = (REPLAY_AS_OF, b"decision")  # the sender goes by the preferences that the router found
# On a record that waits in a retry tier for its receipt. A replay leaves it out: then an operator has decided.
AWAITS_RECEIPT = ("__send.awaits", b"receipt")
OURS = frozenset(
    {
        *(PREFIX + name for name in ("topic", "partition", "offset", "group", "delivery.count", "message")),
        *(
            PREFIX + name
            for name in ("stage", "exception.class.name", "disposition", "fingerprint", "schema.id")
        ),
        *(PREFIX + name for name in ("provider", "provider.code", "first.failure.at", "last.failure.at")),
        REPLAY_RUN,
        REPLAY_COUNT,
        REPLAY_AS_OF,
        AWAITS_RECEIPT[0],
    }
)
_DIGITS = 20  # more than 64 bits have
_MAX_MESSAGE = 1_000  # characters: the broker counts headers towards its 1 MB limit
# What differs from one failure to the next of the same kind: ids, hashes, quoted words, numbers.
_VARIES = re.compile(r"'[^']*'|\"[^\"]*\"|\b[0-9a-fA-F]{8,}(?:-[0-9a-fA-F]+)*\b|\d+")


@dataclass(frozen=True, slots=True, kw_only=True)
class Cause:
    """Why a record is given up."""

    disposition: Disposition
    message: str  # in words, no address
    error: str = ""  # class of the exception, empty when none was raised
    attempts: int = 1  # how often it was tried
    provider: str = ""  # the connector that was asked; empty when none was
    code: str = ""  # the provider's own
    first_at: datetime | None = None  # of the first failure, UTC; None: the only one
    last_at: datetime | None = None  # of the last failure, UTC; None: when the letter was written

    def fingerprint(self, stage: str) -> str:
        """The same 12 hexadecimal digits for failures of one kind, whatever ids and numbers they name."""
        words = _VARIES.sub("#", self.message)
        kind = (stage, self.disposition, self.error, self.provider, self.code, words)
        return hashlib.blake2b("\x1f".join(kind).encode(errors="replace"), digest_size=6).hexdigest()


class Letter(NamedTuple):
    """A record of `notification.dead`, or of a retry tier, as it was read.

    A tuple, because a replay makes a million of them: a frozen dataclass takes three times as long.
    """

    topic: str
    partition: int
    offset: int
    key: bytes | None
    value: bytes
    at: int  # when it was written, milliseconds since 1970, UTC
    headers: dict[str, bytes]  # by name; of a name that comes twice the last
    raw_headers: Sequence[tuple[str, bytes]] = ()  # as they came: a foreign name may come twice

    @property
    def place(self) -> str:
        """How people and tables name it."""
        return f"{self.topic}/{self.partition}/{self.offset}"

    @property
    def origin(self) -> str:
        """The topic that the record was given up on; a retry tier's own topic when it was not."""
        return self.fact("topic") or self.topic

    @property
    def attempts(self) -> int:
        """How often it was tried; 0 when nothing says so."""
        return _number(self.fact("delivery.count"))

    @property
    def replays(self) -> int:
        """How often it was replayed before."""
        count = self.headers.get(REPLAY_COUNT)
        return _number(count.decode(errors="replace")) if count else 0

    def fact(self, name: str) -> str:
        """The header `__dlq.errors.<name>` as text, empty when it is not there."""
        value = self.headers.get(PREFIX + name)
        return value.decode(errors="replace") if value else ""

    def failed(self, which: Literal["first", "last"]) -> datetime:
        """When it failed for the first or the last time, UTC."""
        at = _number(self.fact(f"{which}.failure.at")) or self.at
        return moment(at)


def dead_headers(source: Incoming, cause: Cause, *, group: str, stage: str) -> Headers:
    """The headers of a dead letter: the source's own, then where it came from and why it is here.

    Earlier `__dlq.errors.*` (of a letter that was replayed and died again) give way to the new ones.
    """
    facts: dict[str, str] = {
        "topic": source.topic,
        "partition": str(source.partition),
        "offset": str(source.offset),
        "group": group,
        "delivery.count": str(cause.attempts),
        "message": cause.message[:_MAX_MESSAGE],
        "stage": stage,
        "exception.class.name": cause.error,
        "disposition": cause.disposition,
        "fingerprint": cause.fingerprint(stage),
        "provider": cause.provider,
        "provider.code": cause.code,
        "schema.id": _schema_id(source.value),
        "first.failure.at": _milliseconds(cause.first_at or cause.last_at),
        "last.failure.at": _milliseconds(cause.last_at),
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


def replayed(headers: Headers) -> Headers:
    """Of a record's headers those that a replay gave it, for the record that is made of it."""
    return tuple(header for header in headers if header[0].startswith(REPLAY))


def _schema_id(value: bytes | None) -> str:
    """The id in the Confluent wire format, empty for other bytes."""
    return str(int.from_bytes(value[1:5])) if value and len(value) >= 5 and value[0] == 0 else ""


def _milliseconds(at: datetime | None) -> str:
    return "" if at is None else str(ms(at))


def _number(text: str) -> int:
    # A foreign header may have any length; Python refuses to read more than 4,300 digits.
    return int(text) if len(text) < _DIGITS and text.isascii() and text.isdigit() else 0
