"""Passengers from a fixed seed: where they can be reached and what they want."""

import random
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from pipeline.model.event import CHANNELS, Channel
from pipeline.model.profile import Address, AnyChannel, Profile, Wishes

TENANT = "demo"
_LANGUAGES = ("en", "en", "en", "es", "de", "pt-BR")
_ZONES = ("America/New_York", "America/Chicago", "America/Los_Angeles", "Europe/Berlin", "America/Sao_Paulo")
# How likely a passenger has such an address: most have one phone with the app, an e-mail and a number.
_HAS: dict[Channel, float] = {"apns": 0.5, "fcm": 0.4, "webpush": 0.2, "sms": 0.6, "email": 0.8}
_DEAD = 0.04  # share of device tokens whose app was removed

Subscribe = Callable[[str], str]
"""A seed → a Web Push subscription as JSON; only the push service can make one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Passengers:
    """Everybody who has booked, and whose device tokens are dead."""

    profiles: tuple[Profile, ...]
    dead: frozenset[str]  # addresses


def passengers(count: int, seed: int, now: datetime, subscribe: Subscribe) -> Passengers:
    """The same people for the same seed."""
    chance = random.Random(seed)  # noqa: S311 - made-up people, not secrets
    profiles = tuple(_profile(number, chance, now, subscribe) for number in range(count))
    tokens = [a.value for p in profiles for a in p.addresses if a.channel in ("apns", "fcm")]
    dead = frozenset(token for token in tokens if chance.random() < _DEAD)
    return Passengers(profiles=profiles, dead=dead)


def _profile(number: int, chance: random.Random, now: datetime, subscribe: Subscribe) -> Profile:
    user_id = f"p-{number:05}"
    addresses = [
        Address(
            address_id=str(UUID(int=chance.getrandbits(128), version=4)),
            channel=channel,
            value=_value(channel, number, chance, subscribe),
            registered_at=now,
        )
        for channel in CHANNELS
        if chance.random() < _HAS[channel]
    ]
    return Profile(
        tenant=TENANT,
        user_id=user_id,
        version=1,
        locale=chance.choice(_LANGUAGES),
        timezone=chance.choice(_ZONES),
        enabled=chance.random() > 0.03,  # a few want nothing at all
        addresses=tuple(addresses),
        preferences=_preferences(chance),
    )


def _preferences(chance: random.Random) -> Wishes:
    """One in five wants no SMS about flights, one in ten no e-mail; the rest keep the defaults."""
    wishes: dict[tuple[str, AnyChannel], bool] = {}
    if chance.random() < 0.2:
        wishes["flights", "sms"] = False
    if chance.random() < 0.1:
        wishes["flights", "email"] = False
    return wishes


def _value(channel: Channel, number: int, chance: random.Random, subscribe: Subscribe) -> str:
    match channel:
        case "apns":
            return f"{chance.getrandbits(256):064x}"
        case "fcm":
            return f"fcm-{number:05}-{chance.getrandbits(128):032x}"
        case "webpush":
            return subscribe(f"p-{number:05}")
        case "sms":
            return f"+1917555{number % 10_000:04}"
        case "email":
            return f"p-{number:05}@example.com"
