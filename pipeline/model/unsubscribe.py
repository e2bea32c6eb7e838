"""The unsubscribe link of a mail (RFC 2369, RFC 8058): what one click ends."""

import hashlib
from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Literal, NamedTuple

from pipeline.model.delivery import Delivery
from pipeline.model.engagement import Engagement
from pipeline.model.event import Channel


class Subscription(NamedTuple):
    """A user's mail of one category, and the delivery whose link was used."""

    tenant: str
    user_id: str
    category: str
    channel: Channel
    delivery_id: str


Link = Callable[[Subscription], str]
"""The address that ends it; nobody reads a user's id out of it, or makes one up."""

Way = Literal["one_click", "page"]

_NONE: Mapping[str, str] = {}
_LONGEST = 998 - len("List-Unsubscribe: <>")  # characters of a line, RFC 5322, 2.1.1


def subscription(delivery: Delivery) -> Subscription | None:
    """What its link would end; None for what a user cannot opt out of, such as a code."""
    if delivery.required or delivery.channel != "email":
        return None
    return Subscription(
        tenant=delivery.tenant,
        user_id=delivery.user_id,
        category=delivery.category,
        channel=delivery.channel,
        delivery_id=delivery.delivery_id,
    )


def headers(link: str | None) -> Mapping[str, str]:
    """Of the mail: both are needed for the button that mail programs show (RFC 8058, 3.1).

    None without a link, and for one that fills more than a line: the mail is worth more than its button.
    """
    if link is None or len(link) > _LONGEST:
        return _NONE
    return {"List-Unsubscribe": f"<{link}>", "List-Unsubscribe-Post": "List-Unsubscribe=One-Click"}


def engagement(ended: Subscription, way: Way, now: datetime) -> Engagement:
    """The fact for the audit and the analysts; used twice, a link tells the same one."""
    return Engagement(
        engagement_id=hashlib.sha256(f"unsubscribe\x1f{ended.delivery_id}".encode()).hexdigest()[:32],
        delivery_id=ended.delivery_id,
        user_id=ended.user_id,
        tenant=ended.tenant,
        channel=ended.channel,
        kind="unsubscribe",
        facts={"category": ended.category, "by": way},
        verdict="human",
        reason="a POST to the link of the mail",
        at=now,
    )
