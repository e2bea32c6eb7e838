"""The people that a router has met lately: their profiles, and what of a ruling is their own, encoded once."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import Protocol

from pipeline.model import avro
from pipeline.model.catalogue import plain_id
from pipeline.model.decision import Verdict
from pipeline.model.delivery import place
from pipeline.model.event import user_key
from pipeline.model.profile import Profile
from pipeline.ports import UserKey
from pipeline.stages.route import gates
from pipeline.stages.route.stencil import Stencil

_MANY = 100_000  # people that are remembered: 3 KB each
_SHAPES = 5_000  # shapes of people that are remembered, each with its patterns


class Profiles(Protocol):
    """The users' profiles, and who has changed."""

    def changed(self) -> Collection[UserKey] | None:
        """Whose profile may be another since the last question; None: anybody's.

        ("acme", "") stands for everybody of a tenant. Raises DependencyDown.
        """
        ...

    def fetch(self, users: Sequence[UserKey]) -> Mapping[UserKey, Profile]:
        """Their profiles as they are now; unknown users are absent. Raises DependencyDown."""
        ...


@dataclass(frozen=True, slots=True)
class Form:
    """One record that a ruling writes, with blanks."""

    topic: str
    partition: int  # -1: the key decides
    stencil: Stencil


@dataclass(slots=True)
class Pattern:
    """A ruling with blanks, for all events that differ in nothing that a gate looks at."""

    verdict: Verdict
    forms: tuple[Form, ...]
    targets: tuple[int, ...]  # which of the person's addresses, in the order of the deliveries
    plate: object = None  # what the compiled short way has made of it


# The type in its lane, topic, partition, no collapse key, language, no trace context, no earlier event of this id.
PatternKey = tuple[bytes, str, int, bool, str | None, bool, bool]
Patterns = dict[PatternKey, Pattern | None]


@dataclass(slots=True, kw_only=True)
class Person:
    """One user."""

    profile: Profile | None
    patterns: Patterns | None = None  # shared by all people of one shape; None: every ruling is one of a kind
    own: "Own | None" = None  # once it was asked for
    card: object = None  # the same as the compiled short way keeps it


@dataclass(frozen=True, slots=True, kw_only=True)
class Own:
    """What of an event and of its ruling is the user's own, encoded."""

    owner: bytes  # user_id and tenant as an event has them
    places: tuple[bytes, ...]  # of the addresses, for the deliveries' ids
    blanks: tuple[bytes, ...]  # user_id, evidence of the version, version, then id and value per address


@dataclass(slots=True)
class People:
    """Whom the router knows, by record key. What has changed since is forgotten before each batch."""

    _profiles: Profiles
    _known: dict[bytes, Person] = field(default_factory=dict[bytes, Person])
    _shapes: dict[tuple[object, ...], Patterns] = field(default_factory=dict[tuple[object, ...], Patterns])

    def meet(self, keys: Collection[bytes]) -> Mapping[bytes, Person]:
        """Everybody known, with those of these record keys that name a user."""
        self._forget(self._profiles.changed())
        if len(self._known) + len(keys) > _MANY:
            for key in list(islice(self._known, _MANY // 4)):  # whom it has known longest
                del self._known[key]
        missing = {key: user for key in keys if key not in self._known and (user := named(key)) is not None}
        if missing:
            found = self._profiles.fetch(list(missing.values()))
            for key, user in missing.items():
                self._known[key] = self._person(found.get(user))
        return self._known

    def _forget(self, changed: Collection[UserKey] | None) -> None:
        if changed is None:
            self._known.clear()
            return
        for tenant, user_id in changed:
            if user_id:
                self._known.pop(user_key(tenant, user_id), None)
            else:
                prefix = user_key(tenant, "")
                for key in [key for key in self._known if key.startswith(prefix)]:
                    del self._known[key]

    def _person(self, profile: Profile | None) -> Person:
        if profile is None or not plain_id(profile.user_id) or any(a.suppressed for a in profile.addresses):
            return Person(profile=profile)
        if len(self._shapes) >= _SHAPES:
            self._shapes.clear()
        return Person(profile=profile, patterns=self._shapes.setdefault(_shape(profile), {}))


def own(profile: Profile) -> Own:
    """What is the user's own."""
    return Own(
        owner=avro.text(profile.user_id) + avro.text(profile.tenant),
        places=tuple(place(address.channel, address.address_id) for address in profile.addresses),
        blanks=blanks(profile),
    )


def named(key: bytes) -> UserKey | None:
    """The user in a record's key, if it is one of ours."""
    try:
        tenant, slash, user_id = key.decode().partition("/")
    except UnicodeDecodeError:
        return None
    return (tenant, user_id) if slash else None


def blanks(profile: Profile) -> tuple[bytes, ...]:
    """What of a ruling is the user's own, encoded."""
    addresses = (
        avro.text(part) for address in profile.addresses for part in (address.address_id, address.value)
    )
    return (
        avro.text(profile.user_id),
        avro.text(gates.version(profile)),
        avro.some(avro.long(profile.version)),
        *addresses,
    )


def _shape(profile: Profile) -> tuple[object, ...]:
    """Everything of a profile that a gate looks at, and what decisions name of it besides `blanks`."""
    return (
        profile.tenant,
        profile.locale,
        profile.timezone,
        profile.enabled,
        profile.quiet_from,
        profile.quiet_until,
        tuple(address.channel for address in profile.addresses),
        frozenset(profile.preferences.items()),
        frozenset(profile.tenant_defaults.items()),
    )
