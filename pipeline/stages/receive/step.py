"""One callback of a provider, as numbered steps.

    1 read     which receiver it is for, whether its signature holds, what it says
    2 whose    tenant and user of the delivery, from the notification log
    3 write    `notification.engagement`, acknowledged
    4 answer   204; whatever else lets the provider try again

A crash before 4 brings the callback again, and with it the same record under the same id.
"""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass

from connectors.contract import Callback, Forged, Receipt, Receiver
from pipeline.model.delivery import Owner
from pipeline.model.errors import DependencyDown
from pipeline.model.event import user_key
from pipeline.model.record import Outgoing
from pipeline.model.topics import ENGAGEMENT
from pipeline.observe import Log
from pipeline.ports import Clock, Codec, Owners, Producer
from pipeline.stages.receive.decide import engagement

_LOOK = 0.25  # seconds between two looks for a delivery that the log may not know yet
_TAKEN, _STRANGER, _NOBODYS, _LATER = 204, 403, 404, 503
_log = Log(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Tools:
    """What every callback needs."""

    receivers: Mapping[str, Receiver]  # by the provider's name
    owners: Owners
    producer: Producer
    wire: Codec
    clock: Clock
    patience: float = 5.0  # seconds for the log to learn of a delivery: a receipt may be faster than it


async def take(tools: Tools, provider: str, callback: Callback) -> int:
    """Make it durable; gives the status of the answer."""
    receiver = tools.receivers.get(provider)
    if receiver is None:
        return _NOBODYS
    try:
        receipt = receiver.read(callback)
    except Forged as error:
        _log.warning("receipt.refused", provider=provider, reason=str(error))
        return _STRANGER
    if receipt is None:
        return _TAKEN
    try:
        return await _write(tools, provider, receipt)
    except DependencyDown as error:
        _log.warning("dependency.down", error=str(error))
        return _LATER


async def _write(tools: Tools, provider: str, receipt: Receipt) -> int:
    owner = await _owner(tools, receipt.delivery_id)
    if owner is None:
        _log.warning("receipt.refused", provider=provider, reason="it is about no delivery that is known")
        return _NOBODYS
    told = engagement(receipt, owner, provider, tools.clock())
    key = user_key(owner.tenant, owner.user_id)
    await tools.producer.send_all([Outgoing(topic=ENGAGEMENT, key=key, value=tools.wire.encode(told))])
    return _TAKEN


async def _owner(tools: Tools, delivery_id: str) -> Owner | None:
    for _ in range(int(tools.patience / _LOOK)):
        found = await tools.owners.find(delivery_id)
        if found is not None:
            return found
        await asyncio.sleep(_LOOK)
    return None
