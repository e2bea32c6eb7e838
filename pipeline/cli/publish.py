"""`everpost publish`: one event, as a service would publish it."""

import asyncio
import re
from dataclasses import asdict
from datetime import datetime, timedelta
from typing import Annotated

from cyclopts import Parameter

from pipeline import settings
from pipeline.cli.show import answer, say
from pipeline.model.catalogue import Catalogue, Kind
from pipeline.model.errors import ConfigurationError
from pipeline.model.event import Channel, Event, Lane, Value
from pipeline.sdk import Client, Receipt, new_event
from pipeline.wiring import catalogue, clock, wire

_TIMES = "as 2026-03-08T05:25:00-05:00, or from now as +90s, +2h or -3d"
_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days"}


def publish(  # noqa: PLR0913 - one option for each field of an event
    type: Annotated[str, Parameter(help="a type of the catalogue, such as flight.cancelled")],
    variables: Annotated[list[str] | None, Parameter(help="its variables, as name=value")] = None,
    /,
    *,
    user: Annotated[str, Parameter(help="the recipient's id")],
    tenant: Annotated[str, Parameter(help="the tenant that the user belongs to")] = "demo",
    event_id: Annotated[str | None, Parameter(help="its identity; the same again is a duplicate")] = None,
    priority: Annotated[Lane | None, Parameter(help="the lane; default: the type's")] = None,
    deliver_at: Annotated[str | None, Parameter(help=f"hold it until then: {_TIMES}")] = None,
    expires_at: Annotated[str | None, Parameter(help="too late from then on, likewise")] = None,
    created_at: Annotated[
        str | None, Parameter(help="when it happened, likewise; default: now", allow_leading_hyphen=True)
    ] = None,
    collapse_key: Annotated[str | None, Parameter(help="by which a recall may name it")] = None,
    locale: Annotated[str | None, Parameter(help="language, as BCP 47; default: the user's")] = None,
    channel: Annotated[list[Channel] | None, Parameter(help="only by this one; may be repeated")] = None,
    json: Annotated[bool, Parameter(help="print the receipt as JSON")] = False,
) -> int:
    """Publish one event and print where Kafka keeps it.

    Example: everpost publish flight.cancelled flight='UA 1018' carrier=United origin=EWR
    destination=IAH scheduled=05:25 --user p-00007
    """
    current = settings.load()
    if event_id == "":
        raise ConfigurationError(
            "--event-id is empty: give the id by which a repeat is recognised, or leave it out"
        )
    types, now = catalogue(current).types, clock()
    event = new_event(
        type,
        tenant=tenant,
        user_id=user,
        data=_values(type, variables or [], types),
        event_id=event_id,
        priority=priority,
        catalogue=types,
        deliver_at=moment("--deliver-at", deliver_at, now),
        expires_at=moment("--expires-at", expires_at, now),
        created_at=moment("--created-at", created_at, now),
        collapse_key=collapse_key,
        locale=locale,
        channels=channel,
    )
    receipt = asyncio.run(_publish(current, types, event))
    if json:
        answer(asdict(receipt))
    else:
        say(f"accepted: {receipt.event_id} at {receipt.topic}/{receipt.partition}/{receipt.offset}")
        say(f"what becomes of it: everpost why {receipt.event_id}")
    return 0


async def _publish(current: settings.Settings, types: Catalogue, event: Event) -> Receipt:
    async with Client(current.bootstrap_servers, catalogue=types, encoder=wire(current)) as client:
        return await client.publish(event)


def _values(type: str, variables: list[str], types: Catalogue) -> dict[str, Value]:
    """`name=value` pairs, each read as the kind that the catalogue says; the door checks the rest."""
    known = types[type].variables if type in types else {}
    values: dict[str, Value] = {}
    for pair in variables:
        name, equals, text = pair.partition("=")
        if not equals:
            raise ConfigurationError(f"{pair!r} is no name=value; write for example flight='UA 1018'")
        if name in values:
            raise ConfigurationError(f"{name} is given twice: name each variable once")
        values[name] = _value(text, known[name].kind if name in known else "string")
    return values


def _value(text: str, kind: Kind) -> Value:
    try:
        match kind:
            case "integer":
                return int(text)
            case "number":
                return float(text)
            case "boolean":
                return {"true": True, "false": False}.get(text.lower(), text)
            case "string":
                return text
    except ValueError:
        return text  # the door says which kind it should be


def moment(option: str, text: str | None, now: datetime) -> datetime | None:
    """A time that is written out, with its zone, or counted from now. Raises ConfigurationError."""
    if text is None:
        return None
    if match := re.fullmatch(r"([+-]\d{1,6})([smhd])", text):
        return now + timedelta(**{_UNITS[match[2]]: int(match[1])})
    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        found = None
    if found is None or found.tzinfo is None:
        raise ConfigurationError(f"{option} {text!r}: write it {_TIMES}")
    return found
