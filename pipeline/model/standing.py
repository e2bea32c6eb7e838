"""Where a delivery stands, when outcomes come late, twice or in any order.

The outcome that counts is the greatest one by (`precedence`, at, source), so the order in which they
are read, and how often, changes nothing. In words:

- delivered once is delivered for ever: the phone rang, whatever another copy of the attempt came to;
- otherwise the later attempt counts (an operator's replay brings a dead delivery back in flight);
- of one attempt made twice, the state counts that MOVES leads to; older news is a no-op.
"""

from collections.abc import Mapping
from typing import Literal

from pipeline.model.outcome import Outcome, State

Standing = State | Literal["planned"]  # planned: decided, and no outcome has come yet

# From each state, where news of the *same* attempt may lead. It is a chain, so two copies agree.
MOVES: Mapping[Standing, frozenset[Standing]] = {
    "planned": frozenset({"in_flight", "expired", "recalled", "suppressed", "dead", "delivered"}),
    "in_flight": frozenset({"expired", "recalled", "suppressed", "dead", "delivered"}),
    "expired": frozenset({"recalled", "suppressed", "dead", "delivered"}),
    "recalled": frozenset({"suppressed", "dead", "delivered"}),
    "suppressed": frozenset({"dead", "delivered"}),
    "dead": frozenset({"delivered"}),
    "delivered": frozenset(),
}
_RANK: Mapping[Standing, int] = {state: len(MOVES) - len(onwards) for state, onwards in MOVES.items()}
_DELIVERED = 1 << 40  # above any attempt


def precedence(outcome: Outcome) -> int:
    """How much an outcome counts against others of its delivery; a planned delivery has 0."""
    delivered = _DELIVERED if outcome.state == "delivered" else 0
    return delivered + outcome.attempt * len(MOVES) + _RANK[outcome.state]


def order(outcome: Outcome) -> tuple[object, ...]:
    """The whole order, by which the outcomes of one delivery are compared; equal is the same outcome."""
    source = (outcome.source_topic, outcome.source_partition, outcome.source_offset)
    return (precedence(outcome), outcome.at, *source)
