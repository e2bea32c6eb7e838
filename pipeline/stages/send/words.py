"""The message of a delivery: template and event to words, words to what a connector takes. Pure."""

from collections.abc import Mapping
from datetime import datetime, timedelta

from connectors.contract import Content, Message
from pipeline.model.catalogue import Catalogue
from pipeline.model.event import Event, Value
from pipeline.model.template import Unrenderable
from pipeline.ports import Renderer, Templates
from pipeline.stages.send.decide import Current

_LEAST = timedelta(seconds=1)  # APNs and Web Push read 0 as "now or never"
_DEFAULT = timedelta(hours=24)


def to_message(
    current: Current,
    event: Event,
    now: datetime,
    *,
    templates: Templates,
    renderer: Renderer,
    catalogue: Catalogue,
) -> Message | Unrenderable:
    """The message to send, with the same identity on every attempt."""
    delivery = current.delivery
    template = templates.get(delivery.type, delivery.template_version, delivery.channel, delivery.locale)
    if template is None:
        where = f"{delivery.type} v{delivery.template_version} {delivery.channel}/{delivery.locale}"
        return Unrenderable(template=where, line=0, message="is not in this sender's catalogue")
    parts = renderer.render(template, _variables(event, catalogue))
    if isinstance(parts, Unrenderable):
        return parts
    return Message(
        delivery_id=delivery.delivery_id,
        event_id=delivery.event_id,
        address=delivery.address,
        registered_at=current.registered_at,
        content=_content(parts),
        urgent=delivery.lane == "urgent",
        time_to_live=_DEFAULT if delivery.expires_at is None else max(_LEAST, delivery.expires_at - now),
        collapse_key=delivery.collapse_key,
    )


def _variables(event: Event, catalogue: Catalogue) -> dict[str, Value]:
    """The event's data, with its absent optional variables as nil: an unknown name stays an error."""
    kind = catalogue.get(event.type)
    optional = [] if kind is None else [name for name, one in kind.variables.items() if not one.required]
    return {**dict.fromkeys(optional), **event.data}


def _content(parts: Mapping[str, str]) -> Content:
    return Content(
        title=parts.get("title") or parts.get("subject", ""),
        text=parts.get("text", ""),
        html=parts.get("html"),
        link=parts.get("link"),
        image=parts.get("image"),
    )
