"""What was accepted against what was decided, sent and received. Pure, and shares nothing with what decides.

accepted   from the load generator's own book
decided    every committed decision
outcomes   every committed record of an attempt
received   every message that a local provider took, from its own file
waiting    what lies in a topic or a table and is not dealt with yet: a backlog, neither lost nor done
"""

import math
from bisect import bisect_left
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from typing import Literal

from pipeline.model.topics import RELEASED

Place = tuple[str, int, int]  # topic, partition, offset
Reason = Literal[
    "uncertain",  # the client got no answer, so nobody could know
    "told no",  # the provider said that it had not taken it
    "in flight at a kill",
    "",  # nothing explains it
]
_IN_FLIGHT = 90.0  # seconds before a kill: what was sent and not yet committed, brokers being away meanwhile
_AFTER = 120.0  # seconds after its successor's first: what was in flight comes again, partition by partition
_SKEW = 1.0  # seconds between a request's being read and its being written down
# Seconds that what a dead sender wrote lies in a socket before a provider takes it: 1.2 s seen at a load of 11.
_UNREAD = 5.0
_WIDTH = 1_000  # places of a partition: more than a sender has in work, so what is further behind came later
_TURN = 30.0  # seconds that a record may be in work


@dataclass(frozen=True, slots=True, kw_only=True)
class Accepted:
    """One event that a door has taken."""

    event_id: str
    channels: frozenset[str]  # where its user must hear of it


@dataclass(frozen=True, slots=True, kw_only=True)
class Decided:
    """One decision, as it lies on its topic."""

    event_id: str
    verdict: str
    place: Place  # of the record that it decides
    deliveries: tuple[tuple[str, str], ...]  # id and channel of each that it planned


@dataclass(frozen=True, slots=True, kw_only=True)
class Attempt:
    """One outcome."""

    delivery_id: str
    result: str
    state: str
    place: Place = ("", 0, 0)  # of the delivery's record
    at: float = 0.0  # when it was written, in seconds since 1970


@dataclass(frozen=True, slots=True, kw_only=True)
class Taken:
    """A message that a provider took."""

    delivery_id: str
    channel: str
    at: float  # seconds since 1970
    told: bool  # whether the client was told so


@dataclass(frozen=True, slots=True, kw_only=True)
class Waiting:
    """What has not been dealt with yet."""

    events: frozenset[str] = frozenset()  # ids
    deliveries: frozenset[str] = frozenset()


@dataclass(frozen=True, kw_only=True)
class Books:
    """The books of a run, and what is wrong between them."""

    accepted: Sequence[Accepted]
    decided: Sequence[Decided]
    outcomes: Sequence[Attempt]
    received: Sequence[Taken]
    waiting: Waiting
    poison: frozenset[bytes]  # what was written that nobody can read
    kept: frozenset[bytes]  # the values of all dead letters
    kills: Mapping[str, Sequence[float]]  # when programs died, in seconds since 1970, by channel

    @cached_property
    def undecided(self) -> frozenset[str]:
        """Accepted, without a decision that ends its way through the router, and not waiting for one."""
        return frozenset(one.event_id for one in self.accepted) - set(self._firsts) - self.waiting.events

    @cached_property
    def unplanned(self) -> frozenset[tuple[str, str]]:
        """Decided, and a channel where its user must hear of it has no delivery: event id, channel."""
        planned = {(one.event_id, channel) for one in self.decided for _, channel in one.deliveries}
        return frozenset(
            (one.event_id, channel)
            for one in self.accepted
            if one.event_id in self._firsts
            for channel in one.channels
            if (one.event_id, channel) not in planned
        )

    @cached_property
    def unended(self) -> frozenset[str]:
        """Deliveries that no provider took, that no outcome ends, and that wait nowhere."""
        return self._planned - set(self._times) - set(self._ends) - self.waiting.deliveries

    @cached_property
    def unfounded(self) -> frozenset[str]:
        """Deliveries that an outcome calls delivered, and that no provider took."""
        return frozenset(id for id, state in self._ends.items() if state == "delivered") - set(self._times)

    @cached_property
    def eaten(self) -> frozenset[bytes]:
        """Poison that was not kept."""
        return self.poison - self.kept

    @property
    def lost(self) -> int:
        """Everything that was accepted or planned and is nowhere."""
        wrong = (self.undecided, self.unplanned, self.unended, self.unfounded, self.eaten)
        return sum(map(len, wrong))

    @property
    def backlog(self) -> int:
        """What is still on its way."""
        return len(self.waiting.events) + len(self.waiting.deliveries - set(self._ends))

    @cached_property
    def decided_again(self) -> frozenset[str]:
        """Records with more than one decision, and ids with more than one first, by name."""
        places = Counter(one.place for one in self.decided)
        # A release that comes early, by a clock that is ahead, is held again, and rightly so.
        holds = [one for one in self.decided if one.verdict == "held" and one.place[0] != RELEASED]
        held = Counter(one.event_id for one in holds)
        names = {f"{topic}/{n}/{offset}" for (topic, n, offset), times in places.items() if times > 1}
        ids = {id for times in (self._firsts, held) for id, count in times.items() if count > 1}
        return frozenset(names | ids)

    @cached_property
    def invented(self) -> frozenset[str]:
        """What was decided, or received, and was never accepted."""
        known = {one.event_id for one in self.accepted}
        events = {one.event_id for one in self.decided if one.verdict != "rejected"} - known
        return frozenset(events | (set(self._times) - self._planned))

    @cached_property
    def repeats(self) -> Counter[Reason]:
        """How many messages a provider took again, by what explains it."""
        return Counter(reason for _, reason in self._repeated)

    @cached_property
    def unexplained(self) -> tuple[str, ...]:
        """Deliveries that a provider took again, and nothing explains it."""
        return tuple(id for id, reason in self._repeated if not reason)

    @cached_property
    def ends(self) -> Counter[str]:
        """How many deliveries ended in which state."""
        return Counter(self._ends.values())

    @cached_property
    def _repeated(self) -> tuple[tuple[str, Reason], ...]:
        return tuple(self._explained())

    def _explained(self) -> Iterator[tuple[str, Reason]]:
        uncertain = {one.delivery_id for one in self.outcomes if one.result == "uncertain"}
        for id, taken in self._times.items():
            unwritten, reread = len(taken) > self._yeses[id], None
            for first, again in pairwise(sorted(taken, key=lambda one: one.at)):
                reason = self._reason(first, again, uncertain=id in uncertain, unwritten=unwritten)
                if not reason:
                    reread = self._read_again(id, first.channel) if reread is None else reread
                    reason, reread = ("in flight at a kill", reread - 1) if reread > 0 else ("", 0)
                yield id, reason

    def _reason(self, first: Taken, again: Taken, *, uncertain: bool, unwritten: bool) -> Reason:
        if not first.told:
            return "told no"
        if uncertain:
            return "uncertain"
        for at, resumed in self._gaps.get(first.channel, ()):
            # Of whose yes there is no record, the sender died; it comes again when its lane has its turn.
            limit = math.inf if unwritten else resumed + _AFTER
            if at - _IN_FLIGHT <= first.at <= at + _UNREAD and at - _SKEW <= again.at <= limit:
                return "in flight at a kill"
        return ""

    def _read_again(self, id: str, channel: str) -> int:
        """How often a record of it was read again because what came of it was not committed at a kill.

        Nothing of it was written, or its outcome, or only the retry that follows from it.
        """
        kills, by_place = self.kills.get(channel, ()), dict[Place, list[Attempt]]()
        for one in sorted(self._attempts[id], key=lambda one: one.at):
            by_place.setdefault(one.place, []).append(one)
        again = sum(
            any(self._explains(kill, first.at, second) for kill in kills)
            for written in by_place.values()
            for first, second in pairwise(written)
        )
        failed = sum(one.result != "delivered" for one in self._attempts[id])
        orphans = len(by_place) - 1 - failed  # retries of attempts that no outcome calls failed
        if orphans > 0:
            source = by_place[min(by_place)][0]
            again += orphans * any(self._explains(kill, kill, source) for kill in kills)
        return again

    def _explains(self, kill: float, worked: float, again: Attempt) -> bool:
        """Whether it came soon after the record was worked on, and the partition was read on from there."""
        topic, partition, offset = again.place
        if not worked - _SKEW <= kill <= min(worked + _IN_FLIGHT, again.at):
            return False
        return not any(
            at > offset + _WIDTH and kill + _UNREAD < one.at < again.at - _TURN
            for (name, n, at), one in ((one.place, one) for one in self.outcomes)
            if (name, n) == (topic, partition)
        )

    @cached_property
    def _attempts(self) -> Mapping[str, Sequence[Attempt]]:
        found: dict[str, list[Attempt]] = defaultdict(list)
        for one in self.outcomes:
            found[one.delivery_id].append(one)
        return found

    @cached_property
    def _gaps(self) -> Mapping[str, Sequence[tuple[float, float]]]:
        """When programs died, and when a provider got the first message behind what the dead had written."""
        times: dict[str, list[float]] = defaultdict(list)
        for one in self.received:
            times[one.channel].append(one.at)
        for each in times.values():
            each.sort()
        return {
            channel: [(at, _first(times[channel], at + _UNREAD)) for at in deaths]
            for channel, deaths in self.kills.items()
        }

    @cached_property
    def _yeses(self) -> Counter[str]:
        """How often it is on record that a provider took each delivery."""
        return Counter(one.delivery_id for one in self.outcomes if one.result == "delivered")

    @cached_property
    def _firsts(self) -> Counter[str]:
        ends = [one for one in self.decided if one.verdict not in ("duplicate", "held")]
        return Counter(one.event_id for one in ends if one.event_id)  # of poison nobody can read the id

    @cached_property
    def _planned(self) -> frozenset[str]:
        return frozenset(id for one in self.decided for id, _ in one.deliveries)

    @cached_property
    def _ends(self) -> Mapping[str, str]:
        """The state in which each delivery ended; delivered wins, as in the notification log."""
        found: dict[str, str] = {}
        for one in self.outcomes:
            if one.state != "in_flight" and found.get(one.delivery_id) != "delivered":
                found[one.delivery_id] = one.state
        return found

    @cached_property
    def _times(self) -> Mapping[str, list[Taken]]:
        found: dict[str, list[Taken]] = defaultdict(list)
        for one in self.received:
            found[one.delivery_id].append(one)
        return found


def _first(times: Sequence[float], after: float) -> float:
    """The first of the sorted times from this one on; this one when there is none."""
    at = bisect_left(times, after)
    return times[at] if at < len(times) else after
