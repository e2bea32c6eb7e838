"""How a delivery ends that waited in a retry tier until an operator discarded it. Pure."""

from datetime import datetime

from pipeline.model.dead import Letter
from pipeline.model.delivery import Delivery
from pipeline.model.outcome import Outcome
from pipeline.model.record import Outgoing
from pipeline.model.replay import Run
from pipeline.model.topics import OUTCOMES
from pipeline.ports import Codec


def withdrawn(wire: Codec, letter: Letter, run: Run, now: datetime) -> Outgoing:
    """The outcome of the attempt that is not made any more: recalled, by this run. Raises Unreadable."""
    delivery = wire.decode(Delivery, letter.value)
    outcome = Outcome(
        delivery_id=delivery.delivery_id,
        event_id=delivery.event_id,
        user_id=delivery.user_id,
        tenant=delivery.tenant,
        channel=delivery.channel,
        address_id=delivery.address_id,
        attempt=delivery.attempt,
        outcome="recalled",
        state="recalled",
        reason=f"discarded by run {run.run_id} while it waited for its next attempt",
        source_topic=letter.topic,
        source_partition=letter.partition,
        source_offset=letter.offset,
        at=now,
    )
    return Outgoing(topic=OUTCOMES, key=letter.key, value=wire.encode(outcome))
