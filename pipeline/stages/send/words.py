"""The message of a delivery: template and event to words, words to what a connector takes. Pure."""

from collections.abc import Mapping
from datetime import datetime, timedelta

from connectors.contract import Content, Message
from pipeline.model.catalogue import Catalogue
from pipeline.model.event import Event
from pipeline.model.template import Unrenderable, variables
from pipeline.model.unsubscribe import Link, headers, subscription
from pipeline.ports import Renderer, Templates
from pipeline.stages.send.decide import Current

_LEAST = timedelta(seconds=1)  # APNs and Web Push read 0 as "now or never"
_DEFAULT = timedelta(hours=24)
_MOST = 99_999  # of a badge: phones show no more digits


def to_message(
    current: Current,
    event: Event,
    now: datetime,
    *,
    templates: Templates,
    renderer: Renderer,
    catalogue: Catalogue,
    link: Link | None,
) -> Message | Unrenderable:
    """The message to send, with the same identity on every attempt.

    `link` makes the addresses by which a recipient ends what he can end; None: there are none.
    """
    delivery = current.delivery
    where = f"{delivery.type} v{delivery.template_version} {delivery.channel}/{delivery.locale}"
    template = templates.get(delivery.type, delivery.template_version, delivery.channel, delivery.locale)
    if template is None:
        return Unrenderable(template=where, line=0, message="is not in this sender's catalogue")
    ends = None if link is None else subscription(delivery)
    url = None if link is None or ends is None else link(ends)
    parts = renderer.render(template, variables(event, catalogue.get(event.type), delivery.channel, url))
    if isinstance(parts, Unrenderable):
        return parts
    badge = parts.get("badge", "")
    if badge and not (badge.isascii() and badge.isdigit() and int(badge) <= _MOST):
        return Unrenderable(
            template=f"{where} badge", line=0, message=f"gives no whole number from 0 to {_MOST}"
        )
    return Message(
        delivery_id=delivery.delivery_id,
        event_id=delivery.event_id,
        address=delivery.address,
        registered_at=current.registered_at,
        content=_content(parts),
        urgent=delivery.lane == "urgent",
        time_to_live=_DEFAULT if delivery.expires_at is None else max(_LEAST, delivery.expires_at - now),
        collapse_key=delivery.collapse_key,
        headers=headers(url),
    )


def _content(parts: Mapping[str, str]) -> Content:
    return Content(
        title=parts.get("title") or parts.get("subject", ""),
        text=parts.get("text", ""),
        html=parts.get("html"),
        link=parts.get("link"),
        image=parts.get("image"),
        sound=parts.get("sound") or None,
        badge=int(parts["badge"]) if parts.get("badge") else None,
    )
