"""The profile: who a user is to us, where they can be reached, and what they want."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime

from pipeline.model.event import Channel


@dataclass(frozen=True, slots=True, kw_only=True)
class Address:
    """A place that a message can be sent to."""

    address_id: str  # UUID
    channel: Channel
    value: str  # token, E.164 phone, mailbox, or Web Push subscription JSON; personal data
    registered_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Profile:
    """Everything the router reads about one user, at one version."""

    tenant: str
    user_id: str
    version: int  # grows with every change of profile, address or preference
    locale: str = "en"  # BCP 47
    timezone: str = "UTC"  # IANA
    enabled: bool = True  # the global switch
    addresses: tuple[Address, ...] = ()  # active ones only
    preferences: Mapping[tuple[str, Channel], bool] = field(
        default_factory=dict[tuple[str, Channel], bool]
    )  # by (category, channel); what is absent follows the category's default
