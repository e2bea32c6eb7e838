"""Compares what was planned, what the notification log says and what the local providers received.

Pure: three lists in, sentences out. Every sentence is one mismatch.
"""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Logged:
    """A delivery as the notification log knows it."""

    delivery_id: str
    event_id: str
    user_id: str
    channel: str
    address: str
    state: str
    uncertain: bool  # one of its attempts ended without an answer


@dataclass(frozen=True, slots=True, kw_only=True)
class Arrived:
    """A request that a local provider accepted."""

    delivery_id: str
    channel: str
    address: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """One place where a passenger should hear of an event, by the plan."""

    event_id: str
    user_id: str
    channel: str
    address: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """What differs; `repeats` counts messages that a provider took more than once."""

    mismatches: tuple[str, ...]
    repeats: int


def compare(
    wanted: Sequence[Wanted],
    logged: Sequence[Logged],
    arrived: Sequence[Arrived],
    *,
    dead: frozenset[str],
    disturbed: bool,
) -> Comparison:
    """Whether the providers got exactly what the plan wanted and the log says.

    `dead`: addresses that a provider refuses for good; after the first refusal nothing more is planned
    for them. `disturbed`: a process was killed on the way, so what was in flight may have gone out
    twice, under the same identity.
    """
    times = Counter(row.delivery_id for row in arrived)
    known = {row.delivery_id: row for row in logged}
    found = [
        *_against_plan(wanted, logged, dead),
        *_unknown(arrived, known),
        *_states(logged, times),
        *_repeats(times, known, disturbed=disturbed),
    ]
    return Comparison(mismatches=tuple(found), repeats=sum(n - 1 for n in times.values()))


def _against_plan(wanted: Sequence[Wanted], logged: Sequence[Logged], dead: frozenset[str]) -> Iterator[str]:
    plan = {(w.event_id, w.user_id, w.channel, w.address) for w in wanted}
    done = {(d.event_id, d.user_id, d.channel, d.address) for d in logged}
    for event_id, user_id, channel, address in sorted(plan - done):
        if address not in dead:
            yield f"{event_id}: {user_id} should hear of it by {channel}, and no delivery was planned"
    for event_id, user_id, channel, _ in sorted(done - plan):
        yield f"{event_id}: a delivery to {user_id} by {channel} was planned against the passenger's word"


def _unknown(arrived: Sequence[Arrived], known: Mapping[str, Logged]) -> Iterator[str]:
    for row in arrived:
        delivery = known.get(row.delivery_id)
        if delivery is None:
            yield f"{row.delivery_id}: {row.channel} received what no decision names"
        elif (delivery.channel, delivery.address) != (row.channel, row.address):
            yield f"{row.delivery_id}: went to another address or channel ({row.channel}) than decided"


def _states(logged: Sequence[Logged], times: Mapping[str, int]) -> Iterator[str]:
    for delivery in logged:
        arrived = times.get(delivery.delivery_id, 0) > 0
        if delivery.state == "delivered" and not arrived:
            yield f"{delivery.delivery_id}: the log says delivered, {delivery.channel} has not seen it"
        if delivery.state != "delivered" and arrived and not delivery.uncertain:
            yield f"{delivery.delivery_id}: the log says {delivery.state}, {delivery.channel} took it"


def _repeats(times: Mapping[str, int], known: Mapping[str, Logged], *, disturbed: bool) -> Iterator[str]:
    for delivery_id, count in times.items():
        delivery = known.get(delivery_id)
        if count > 1 and delivery is not None and not delivery.uncertain and not disturbed:
            yield f"{delivery_id}: {delivery.channel} took it {count} times, and nothing explains a repeat"
