"""An SMS whose answer was lost: it waits for its receipt, and then its category says. Pure.

No provider of SMS knows a repeat by our id, so what may have gone out is not sent again while nobody knows.
The wait is a rung of the retry ladder; meanwhile the provider tells what became of it (`stages/receive`).
"""

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime

from pipeline.model.catalogue import Category
from pipeline.model.delivery import Delivery
from pipeline.model.ladder import Climb, Tier
from pipeline.stages.send.decide import Verdict

# Most receipts come within a minute. Who repeats then risks a second ring for the sake of a timely first one;
# who gives up has time to hear of it.
_RUNGS = {"repeat": 1, "give_up": 2}


def waiting(
    delivery: Delivery, given_up: Verdict, category: Category, now: datetime, tiers: Sequence[Tier]
) -> Verdict:
    """Instead of giving it up: back when the receipt should be here, and before it is too late to repeat it."""
    for tier in reversed(tiers[: _RUNGS[category.uncertain] + 1]):
        due = now + tier.delay
        in_time = delivery.expires_at is None or due < delivery.expires_at
        if in_time and delivery.attempt <= len(tiers):
            climb = Climb(tier=tier, not_before=due)
            return replace(given_up, state="in_flight", climb=climb, disposition=None, awaits=True)
    return given_up


def by_receipt(fate: str | None, category: Category) -> Verdict | None:
    """What the receipt says of it; None: nothing came, and it is to be sent again."""
    why = f"by its receipt: {fate}"
    match fate:
        case "delivered" | "under_way":
            return Verdict(result="delivered", state="delivered", reason=why)
        case "dead_address":
            return Verdict(result="invalid_address", state="dead", reason=why, disposition="invalid_address")
        case None if category.uncertain == "repeat":
            return None
        case None:
            why = "the answer was lost, and no receipt came"
            return Verdict(result="uncertain", state="dead", reason=why, disposition="uncertain")
        case _:
            return Verdict(result="permanent", state="dead", reason=why, disposition="permanent")
