"""Values for tests: short ways to events, profiles and a catalogue."""

from collections.abc import Iterable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import NAMESPACE_OID, uuid5

from pipeline.model.catalogue import Cap, Catalogue, Category, EventType, Variable
from pipeline.model.event import CHANNELS, Channel, Event
from pipeline.model.profile import Address, Profile

NOW = datetime(2026, 3, 8, 12, 0, tzinfo=UTC)

FLIGHTS = Category(name="flights")
SECURITY = Category(name="security", required=True)
OFFERS = Category(name="offers", on_by_default=frozenset({"email"}))
NEWS = Category(
    name="news",
    caps={
        "apns": Cap(limit=2, window=timedelta(hours=2), then="hold"),
        "sms": Cap(limit=1, window=timedelta(days=1)),
    },
)


def event_type(name: str, category: Category, channels: tuple[Channel, ...] = CHANNELS) -> EventType:
    """A type with one required and one optional variable, in English and German."""
    return EventType(
        name=name,
        category=category,
        channels=channels,
        variables={"flight": Variable(kind="string"), "minutes": Variable(kind="integer", required=False)},
        time_to_live=timedelta(hours=6),
        template_version=3,
        locales=("en", "de"),
    )


CATALOGUE: Catalogue = {
    "flight.cancelled": event_type("flight.cancelled", FLIGHTS),
    "account.code": event_type("account.code", SECURITY, ("sms", "email")),
    "offer.weekend": event_type("offer.weekend", OFFERS),
    "news.brief": event_type("news.brief", NEWS, ("apns", "sms")),
    "seat.free": replace(event_type("seat.free", FLIGHTS, ("fcm", "apns", "sms")), choice="first"),
}


def event(event_id: str = "e-1", user_id: str = "u-1", **changes: Any) -> Event:
    """A valid flight cancellation, with changes."""
    values: dict[str, Any] = {
        "event_id": event_id,
        "user_id": user_id,
        "tenant": "acme",
        "type": "flight.cancelled",
        "created_at": NOW,
        "data": {"flight": "UA 1018"},
    }
    return Event(**{**values, **changes})


def profile(
    user_id: str = "u-1", channels: Iterable[Channel] = ("apns", "sms", "email"), **changes: Any
) -> Profile:
    """A profile with one address a channel."""
    addresses = tuple(
        Address(
            address_id=str(uuid5(NAMESPACE_OID, f"{user_id}-{n}")),
            channel=channel,
            value=f"to-{channel}",
            registered_at=NOW,
        )
        for n, channel in enumerate(channels)
    )
    values: dict[str, Any] = {"tenant": "acme", "user_id": user_id, "version": 7, "addresses": addresses}
    return Profile(**{**values, **changes})
