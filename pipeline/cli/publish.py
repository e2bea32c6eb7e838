"""`everpost publish`: one event, as a service would publish it."""

import asyncio
from dataclasses import asdict
from typing import Annotated

from cyclopts import Parameter

from pipeline import settings
from pipeline.cli.show import answer, say
from pipeline.model.catalogue import Catalogue, Kind
from pipeline.model.errors import ConfigurationError
from pipeline.model.event import Event, Lane, Value
from pipeline.sdk import Client, Receipt, new_event
from pipeline.wiring import catalogue, wire


def publish(
    type: Annotated[str, Parameter(help="a type of the catalogue, such as flight.cancelled")],
    variables: Annotated[list[str] | None, Parameter(help="its variables, as name=value")] = None,
    /,
    *,
    user: Annotated[str, Parameter(help="the recipient's id")],
    tenant: Annotated[str, Parameter(help="the tenant that the user belongs to")] = "demo",
    event_id: Annotated[str | None, Parameter(help="its identity; the same again is a duplicate")] = None,
    priority: Annotated[Lane | None, Parameter(help="the lane; default: the type's")] = None,
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
    types = catalogue(current).types
    event = new_event(
        type,
        tenant=tenant,
        user_id=user,
        data=_values(type, variables or [], types),
        event_id=event_id,
        priority=priority or (types[type].lane if type in types else "normal"),
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
