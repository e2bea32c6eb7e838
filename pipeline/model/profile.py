"""The profile: who a user is to us, where they can be reached, and what they want."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, time
from typing import Literal

from pipeline.model.event import Channel

AnyChannel = Channel | Literal[""]
Wishes = Mapping[tuple[str, AnyChannel], bool]
"""Yes or no by (category, channel). An empty category or channel is the wider level: every one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Address:
    """A place that a message can be sent to."""

    address_id: str  # UUID
    channel: Channel
    value: str  # token, E.164 phone, mailbox, or Web Push subscription JSON; personal data
    registered_at: datetime
    suppressed: str = ""  # why nothing goes there any more (hard_bounce, complaint, …); empty: it may


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
    preferences: Wishes = field(default_factory=dict[tuple[str, AnyChannel], bool])  # the user's
    tenant_defaults: Wishes = field(
        default_factory=dict[tuple[str, AnyChannel], bool]
    )  # for all users of the tenant; what is absent follows the category's default
    quiet_from: time | None = None  # local time, inclusive; both or none, equal: never quiet
    quiet_until: time | None = None  # local time, exclusive; before `quiet_from`: over midnight
