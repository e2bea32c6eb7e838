"""The demo from its start to its comparison."""

import asyncio
import shutil
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import SecretStr

from connectors.sandbox.webpush import subscription
from infra.demo.flights import troubles
from infra.demo.passengers import Passengers, passengers
from infra.demo.plan import Step, plan
from infra.embedded import stack
from infra.embedded.supervisor import Supervisor
from pipeline.adapters.postgres.pool import transaction
from pipeline.adapters.postgres.profiles import save_profiles
from pipeline.cli.demo.day import Accepted, Doors, publish
from pipeline.cli.demo.gather import Control, control, expected, logged
from pipeline.cli.demo.live import Show
from pipeline.cli.demo.report import Report
from pipeline.cli.demo.verify import compare
from pipeline.cli.stages import (
    Providers,
    bootstrap,
    start_providers,
    start_stages,
    wait_for_providers,
)
from pipeline.model.errors import DependencyDown
from pipeline.model.ledger import Ledger
from pipeline.sdk import Client
from pipeline.settings import Settings
from pipeline.wiring import catalogue, clock, close_books, pool, wire

_LOOK = 0.5  # seconds between two looks at the figures
_SETTLE = 120.0  # seconds after the last event until everything must have ended
_QUIET = 2  # looks in a row that find nothing in flight
RETRY_SCALE = 0.02  # the ladder of 10 s to 6 h shrinks to 0.2 s to 7 min, as the day to half a minute


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """What the command was asked for."""

    flights: Path
    seconds: float  # that the day takes
    people: int
    per_flight: int  # passengers told of each flight
    seed: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Scene:
    """Everything that is known before the first event."""

    options: Options
    steps: Sequence[Step]
    people: Passengers
    settings: Settings


def fresh_home(current: Settings) -> Path:
    """A home of the demo's own, without the data of the last demo; fetched files are shared."""
    home = current.home / "demo"
    if stack.find(home) is None:
        for part in ("kafka", "postgres", "providers", "logs"):
            shutil.rmtree(home / part, ignore_errors=True)
    return home


def prepare(options: Options, current: Settings, running: stack.Stack, providers: Providers) -> Scene:
    """Make people and plan, tables and topics, and start every stage."""
    here = current.model_copy(
        update={
            "home": running.home,
            "bootstrap_servers": running.bootstrap_servers,
            "postgres_dsn": SecretStr(running.postgres_dsn),
            "retry_scale": RETRY_SCALE,
        }
    )
    origin = f"https://{providers.options['EVERPOST_CONNECTOR_WEBPUSH_HOSTS']}"
    people = passengers(options.people, options.seed, clock(), lambda seed: subscription(seed, origin))
    steps = plan(troubles(options.flights), people, options.seed, options.per_flight)
    asyncio.run(_fill(here, people))
    start_stages(running.supervisor, here, providers.options)
    return Scene(options=options, steps=steps, people=people, settings=here)


async def _fill(here: Settings, people: Passengers) -> None:
    await bootstrap(here)
    async with pool(here) as connections, transaction(connections) as connection:
        await save_profiles(connection, people.profiles)


def launch_providers(running: stack.Stack) -> Providers:
    """Start the local providers of the demo and wait for them."""
    directory = running.home / "providers"
    start_providers(running.supervisor, directory)
    return wait_for_providers(running.supervisor, directory)


def faults(people: Passengers, seconds: float) -> list[dict[str, Any]]:
    """Dead tokens, an SMS provider that is down for a while, and small misfortunes elsewhere."""
    down, up = seconds * 0.3, seconds * 0.3 + 6
    return [
        *({"kind": "dead", "address": address} for address in sorted(people.dead)),
        {"kind": "status", "provider": "vonage", "status": 503, "after": down, "until": up},
        {"kind": "status", "provider": "apns", "status": 429, "share": 0.01, "each": 1},
        {"kind": "status", "provider": "fcm", "status": 503, "share": 0.02, "each": 1, "retry_after": "1"},
        {"kind": "status", "provider": "smtp", "status": 451, "share": 0.02, "each": 1},
    ]


async def play(scene: Scene, control_url: str, supervisor: Supervisor) -> Report:
    """Publish the day, wait until all has ended, and compare."""
    here = scene.settings
    types = catalogue(here).types
    async with (
        control(control_url) as door,
        pool(here) as connections,
        Client(here.bootstrap_servers, catalogue=types, encoder=wire(here)) as client,
    ):
        await door.add_faults(faults(scene.people, scene.options.seconds))
        doors = Doors(client=client, pool=connections, catalogue=types, codec=wire(here))
        with Show(len(scene.steps)) as show:
            accepted = await _day(scene, doors, door, show)
            ledger = await _settled(scene, accepted, door, show)
        comparison = compare(
            list(expected(scene.steps, scene.people, types)),
            await logged(connections),
            await door.arrived(),
            dead=scene.people.dead,
            disturbed=bool(restarts := _restarts(supervisor)),
        )
    return Report(accepted=accepted, ledger=ledger, comparison=comparison, restarts=restarts)


async def _day(scene: Scene, doors: Doors, door: Control, show: Show) -> Accepted:
    """Publish everything while the table moves."""
    so_far = [Accepted()]
    publishing = asyncio.create_task(publish(scene.steps, doors, scene.options.seconds, so_far.append))
    while not publishing.done():
        show.update(so_far[-1], await door.accepted(), await _books(scene.settings))
        await asyncio.wait([publishing], timeout=_LOOK)
    return await publishing


async def _settled(scene: Scene, accepted: Accepted, door: Control, show: Show) -> Ledger:
    """Wait until nothing is in flight, twice in a row, or for two minutes; the last ledger."""
    deadline, quiet = time.monotonic() + _SETTLE, 0
    while True:
        ledger = await _books(scene.settings)
        if ledger is None and time.monotonic() < deadline:
            await asyncio.sleep(_LOOK)
            continue
        ledger = ledger or await close_books(scene.settings)  # its error, when the deadline has passed
        show.update(accepted, await door.accepted(), ledger)
        complete = ledger.accepted + accepted.absorbed >= accepted.events and ledger.balanced
        quiet = quiet + 1 if complete and ledger.in_flight == 0 else 0
        if quiet >= _QUIET or time.monotonic() > deadline:
            return ledger
        await asyncio.sleep(_LOOK)


async def _books(settings: Settings) -> Ledger | None:
    try:
        return await close_books(settings)
    except DependencyDown:  # only shown; the last look does not forgive it
        return None


def _restarts(supervisor: Supervisor) -> Mapping[str, int]:
    return {one.name: one.restarts for one in supervisor.status() if one.restarts}
