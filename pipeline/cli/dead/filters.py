"""The conditions that every command over dead letters takes, and how they become a selection."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Annotated

from cyclopts import Parameter

from pipeline.model.dead import Disposition
from pipeline.model.errors import ConfigurationError
from pipeline.model.event import Channel
from pipeline.model.replay import Selection

_AGO = re.compile(r"(\d+(?:\.\d+)?)([smhd])")
_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days"}


@dataclass(frozen=True, kw_only=True)
class Filters:
    """Which letters: those that every given condition holds for."""

    since: Annotated[str | None, Parameter(help="died since then: 30m, 2h, 7d ago, or an ISO time")] = None
    until: Annotated[str | None, Parameter(help="died before then, likewise")] = None
    tenant: Annotated[str | None, Parameter(help="of this tenant")] = None
    user: Annotated[str | None, Parameter(help="of this user")] = None
    type: Annotated[str | None, Parameter(help="about events of this type")] = None
    channel: Annotated[Channel | None, Parameter(help="to be sent by this channel")] = None
    provider: Annotated[str | None, Parameter(help="that this connector was asked to send")] = None
    disposition: Annotated[Disposition | None, Parameter(help="given up for this reason")] = None
    error: Annotated[str | None, Parameter(help="with this fingerprint, or beginning of one")] = None
    header: Annotated[tuple[str, ...], Parameter(help="with this header, as name=value; repeatable")] = ()
    field: Annotated[tuple[str, ...], Parameter(help="with this variable of the event, as name=value")] = ()


InRetry = Annotated[bool, Parameter(name="--retry", help="instead: what waits in the retry tiers")]
Chosen = Annotated[Filters | None, Parameter(name="*")]


def selection(filters: Filters | None, now: datetime) -> Selection:
    """The conditions. Raises ConfigurationError for a time or a pair that cannot be read."""
    given = filters or Filters()
    return Selection(
        since=moment("--since", given.since, now),
        until=moment("--until", given.until, now),
        tenant=given.tenant,
        user=given.user,
        type=given.type,
        channel=given.channel,
        provider=given.provider,
        disposition=given.disposition,
        error=given.error,
        headers=pairs("--header", given.header),
        fields=pairs("--field", given.field),
    )


def moment(option: str, text: str | None, now: datetime) -> datetime | None:
    """A time that was given as such, or as how long ago. Raises ConfigurationError."""
    if text is None:
        return None
    if (ago := _AGO.fullmatch(text)) is not None:
        return now - timedelta(**{_UNITS[ago[2]]: float(ago[1])})
    try:
        at = datetime.fromisoformat(text)
    except ValueError as error:
        raise ConfigurationError(
            f"{option} {text}: give how long ago (30m, 2h, 7d) or an ISO time such as 2026-03-08T12:00Z"
        ) from error
    return at if at.tzinfo else at.replace(tzinfo=UTC)


def pairs(option: str, texts: Sequence[str]) -> Mapping[str, str]:
    """name=value, each name once. Raises ConfigurationError."""
    found: dict[str, str] = {}
    for text in texts:
        name, equals, value = text.partition("=")
        if not equals or not name:
            raise ConfigurationError(f"{option} {text}: write it as name=value")
        if name in found:
            raise ConfigurationError(f"{option} {name} is given twice")
        found[name] = value
    return found
