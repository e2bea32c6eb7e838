"""The last gate: one delivery for each address that is left, in the lane of the event."""

from pipeline.model.delivery import Delivery, delivery_id
from pipeline.stages.route.case import Case


def fan_out(case: Case, raw: bytes) -> tuple[Delivery, ...]:
    """The deliveries of an event that has passed every gate; `raw` are its original bytes."""
    event, kind, profile = case.event, case.kind, case.profile
    expires_at = case.expires_at
    return tuple(
        Delivery(
            delivery_id=delivery_id(
                event.tenant, event.user_id, event.event_id, address.channel, address.address_id
            ),
            event_id=event.event_id,
            user_id=event.user_id,
            tenant=event.tenant,
            type=event.type,
            category=kind.category.name,
            channel=address.channel,
            lane=event.priority,
            address_id=address.address_id,
            address=address.value,
            locale=case.locale,
            template_version=kind.template_version,
            expires_at=expires_at,
            collapse_key=event.collapse_key,
            required=kind.category.required,
            profile_version=profile.version,
            decided_at=case.now,
            traceparent=event.traceparent,
            event=raw,
        )
        for address in case.targets
    )
