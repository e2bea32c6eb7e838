"""The catalogue: event types, their categories and variables, and the rules of the door.

A catalogue is loaded from a directory (`pipeline/adapters/files/catalogue.py`); this module only
knows its values and what it means for an event to be valid.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Literal, get_args

from pipeline.model.errors import Problem
from pipeline.model.event import CHANNELS, LANES, Channel, Event, Lane, Value

Choice = Literal["all", "first"]
CHOICES: tuple[Choice, ...] = get_args(Choice)
WhenUncertain = Literal["give_up", "repeat"]
WHEN_UNCERTAIN: tuple[WhenUncertain, ...] = get_args(WhenUncertain)
Kind = Literal["string", "integer", "number", "boolean"]
_TYPES: Mapping[Kind, tuple[type, ...]] = {
    "string": (str,),
    "integer": (int,),
    "number": (int, float),
    "boolean": (bool,),
}
_EXACT: Mapping[Kind, tuple[type, ...]] = {**_TYPES, "string": ()}  # without bool, which is an int in Python
_TENANT = re.compile(r"[a-z0-9_-]{1,64}")
MAX_ID = 128  # characters
_UNSPEAKABLE = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f\ud800-\udfff]")  # no provider takes them
SKEW = timedelta(days=1)  # more than any clock or mistaken time zone is off
_LONGEST_HOLD = timedelta(days=366)  # what is further off is a mistake, and its expiry may be past year 9999
MAX_TEXT = 2_000  # characters of one string variable: an SMS has 1,530, a push 4,096 bytes in all


@dataclass(frozen=True, slots=True, kw_only=True)
class Cap:
    """How often a category may reach a user on one channel."""

    limit: int  # sends, from 1
    window: timedelta  # rolling, at most LONGEST_CAP
    then: Literal["suppress", "hold"] = "suppress"  # what is too much: dropped, or kept for a free slot


LONGEST_CAP = timedelta(days=7)  # the router reads no older decisions back


@dataclass(frozen=True, slots=True, kw_only=True)
class Category:
    """What a user opts in to or out of."""

    name: str
    required: bool = False  # passes an opt-out: security codes and the like
    on_by_default: frozenset[Channel] = frozenset(CHANNELS)
    caps: Mapping[Channel, Cap] = field(default_factory=dict[Channel, Cap])  # absent: no limit
    uncertain: WhenUncertain = "give_up"  # an SMS whose answer was lost and of which no receipt came


@dataclass(frozen=True, slots=True, kw_only=True)
class Variable:
    """One variable of a type's data."""

    kind: Kind
    required: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class EventType:
    """One type of event."""

    name: str
    category: Category
    channels: tuple[Channel, ...]  # in the order of preference
    choice: Choice = "all"  # every channel that is left, or only the first of them
    variables: Mapping[str, Variable]
    lane: Lane = "normal"
    time_to_live: timedelta = timedelta(hours=24)
    template_version: int = 1  # the one that new decisions pin
    locales: tuple[str, ...] = ("en",)  # those that the pinned version has; the first is the default


Catalogue = Mapping[str, EventType]


def problems(event: Event, catalogue: Catalogue, now: datetime) -> tuple[Problem, ...]:
    """Everything that is wrong with an event, each with its fix; empty when it may be accepted."""
    found = [*_identity(event), *_times(event, now), *_channels(event)]
    kind = catalogue.get(event.type)
    if kind is None:
        known = ", ".join(sorted(catalogue)) or "none"
        found.append(
            Problem(
                field="type",
                message=f"{event.type!r} is not in the catalogue",
                fix=f"use one of: {known}; or add the type to the catalogue",
            )
        )
    else:
        found.extend(_variables(event.data, kind))
    return tuple(found)


def plainly_valid(data: Mapping[str, Value], kind: EventType) -> bool:
    """Whether the variables are right beyond doubt; False is no verdict, then `problems` has the word.

    In half a microsecond: the router asks it for every event.
    """
    variables = kind.variables
    for name, value in data.items():
        variable = variables.get(name)
        if variable is None:
            return False
        if type(value) is str:
            if variable.kind != "string" or len(value) > MAX_TEXT or not value.isprintable():
                return False
        elif type(value) not in _EXACT[variable.kind]:
            return False
    return all(name in data for name, variable in variables.items() if variable.required)


def plain_id(value: str) -> bool:
    """Whether an event's or a user's id may be as it is."""
    return 1 <= len(value) <= MAX_ID and value.isprintable()


def _identity(event: Event) -> list[Problem]:
    found: list[Problem] = []
    if not _TENANT.fullmatch(event.tenant):
        found.append(
            Problem(
                field="tenant",
                message="must be 1 to 64 of a-z, 0-9, '-', '_'",
                fix="use the tenant's key",
            )
        )
    for name, value in (("event_id", event.event_id), ("user_id", event.user_id)):
        if not plain_id(value):
            found.append(
                Problem(
                    field=name,
                    message=f"must be 1 to {MAX_ID} printable characters, has {len(value)}",
                    fix="shorten it, or hash it",
                )
            )
    if event.priority not in LANES:
        found.append(
            Problem(field="priority", message=f"{event.priority!r} is no lane", fix="use " + ", ".join(LANES))
        )
    return found


def _times(event: Event, now: datetime) -> list[Problem]:
    found: list[Problem] = []
    end, due = event.expires_at, event.deliver_at
    for name in ("created_at", "expires_at", "deliver_at"):
        at: datetime | None = getattr(event, name)
        if at is not None and at.tzinfo is None:
            found.append(Problem(field=name, message="has no time zone", fix="use datetime.now(UTC)"))
    if not found and event.created_at > now + SKEW:
        found.append(
            Problem(
                field="created_at",
                message=f"{event.created_at.isoformat()} is in the future",
                fix="give the time at which it happened, in UTC",
            )
        )
    if not found and due is not None and due > now + _LONGEST_HOLD:
        found.append(
            Problem(
                field="deliver_at",
                message=f"{due.isoformat()} is more than {_LONGEST_HOLD.days} days off",
                fix="publish it nearer to its time",
            )
        )
    if not found and end is not None and due is not None and due >= end:
        found.append(
            Problem(
                field="deliver_at",
                message="is not before expires_at: it would expire before it is sent",
                fix="give an earlier deliver_at, or a later expires_at",
            )
        )
    if not found and end is not None and end <= now:
        found.append(
            Problem(
                field="expires_at",
                message=f"{end.isoformat()} has passed",
                fix="give a later time, or leave it out for the type's time to live",
            )
        )
    return found


def _channels(event: Event) -> list[Problem]:
    unknown = [channel for channel in event.channels or () if channel not in CHANNELS]
    if not unknown:
        return []
    return [
        Problem(
            field="channels",
            message=f"{', '.join(unknown)}: no such channel",
            fix="use " + ", ".join(CHANNELS),
        )
    ]


def _variables(data: Mapping[str, Value], kind: EventType) -> list[Problem]:
    found: list[Problem] = []
    for name, variable in kind.variables.items():
        value = data.get(name)
        if value is None:
            if variable.required:
                found.append(
                    Problem(
                        field=f"data.{name}",
                        message="is missing",
                        fix=f"{kind.name} needs a {variable.kind} here",
                    )
                )
        else:
            found.extend(_variable(name, value, variable))
    for name in sorted(data.keys() - kind.variables.keys()):
        known = ", ".join(sorted(kind.variables)) or "none"
        found.append(
            Problem(
                field=f"data.{name}",
                message=f"is no variable of {kind.name}",
                fix=f"remove it, or use one of: {known}",
            )
        )
    return found


def _variable(name: str, value: Value, variable: Variable) -> list[Problem]:
    right = isinstance(value, _TYPES[variable.kind])
    if isinstance(value, bool) and variable.kind != "boolean":  # bool is an int in Python
        right = False
    if not right:
        return [
            Problem(
                field=f"data.{name}",
                message=f"is a {type(value).__name__}",
                fix=f"give a {variable.kind}",
            )
        ]
    if isinstance(value, str) and (bad := _UNSPEAKABLE.search(value)):
        return [
            Problem(
                field=f"data.{name}",
                message=f"holds the character U+{ord(bad[0]):04X}",
                fix="send text: of the control characters only tab and line ends, and no half of a surrogate pair",
            )
        ]
    if isinstance(value, str) and len(value) > MAX_TEXT:
        return [
            Problem(
                field=f"data.{name}",
                message=f"has {len(value)} characters",
                fix=f"at most {MAX_TEXT}; send a link to the rest",
            )
        ]
    if isinstance(value, int) and not -(2**63) <= value < 2**63:
        return [Problem(field=f"data.{name}", message="does not fit 64 bits", fix="give it as a string")]
    return []
