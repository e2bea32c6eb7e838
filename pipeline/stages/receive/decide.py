"""The record that a receipt becomes. Pure."""

import hashlib
from collections.abc import Mapping
from datetime import datetime

from connectors.contract import Fate, Receipt
from pipeline.model.delivery import Owner
from pipeline.model.engagement import Engagement, Kind

_KINDS: Mapping[Fate, Kind] = {
    "under_way": "receipt",
    "delivered": "receipt",
    "failed": "bounce",
    "dead_address": "bounce",
    "opted_out": "unsubscribe",
    "complained": "complaint",
}


def engagement(receipt: Receipt, owner: Owner, provider: str, now: datetime) -> Engagement:
    """What was told, with whose it is. Told twice, or by every part of a long SMS, it has one identity."""
    told = (provider, receipt.delivery_id, receipt.fate, receipt.code)
    return Engagement(
        engagement_id=hashlib.sha256("\x1f".join(told).encode()).hexdigest()[:32],
        delivery_id=receipt.delivery_id,
        event_id=owner.event_id,
        user_id=owner.user_id,
        tenant=owner.tenant,
        channel=owner.channel,
        kind=_KINDS[receipt.fate],
        facts={**receipt.facts, "provider": provider, "fate": receipt.fate, "code": receipt.code},
        at=now,
    )
