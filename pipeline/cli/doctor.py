"""`everpost doctor`: what is configured, what answers, and what to do about the rest."""

import asyncio
import os
import shutil
import sys
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import asdict, dataclass
from importlib.metadata import entry_points
from typing import Annotated

from cyclopts import Parameter
from rich.markup import escape

from pipeline import settings
from pipeline.adapters.kafka.admin import check
from pipeline.adapters.postgres.pool import session
from pipeline.cli.show import answer, say
from pipeline.model.errors import EverpostError
from pipeline.model.topics import table
from pipeline.settings import CONNECTOR_PREFIX, PREFIX, Settings
from pipeline.wiring import catalogue, clock, pool, wire

_SKEW = 5.0  # seconds between our clock and the database's, above which expiry and retries go wrong
_ROOM = 1024**3  # bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """The result of one check."""

    check: str
    good: bool
    what: str


Check = Callable[[Settings], Awaitable[str]]
"""Gives what is good, or raises EverpostError with what to do."""


def doctor(*, json: Annotated[bool, Parameter(help="print one JSON object on the last line")] = False) -> int:
    """Check settings, disk, Kafka, topics, Postgres, clock, schema ids, catalogue and connectors.

    Exit code 0 when all is well, 1 when something needs a hand; each finding says what to do.
    """
    current = settings.load()
    findings = asyncio.run(_examine(current))
    values = {name: str(getattr(current, name)) for name in type(current).model_fields}
    good = all(finding.good for finding in findings)
    if json:
        answer({"good": good, "settings": values, "findings": [asdict(finding) for finding in findings]})
        return 0 if good else 1
    for name, value in values.items():
        say(f"[dim]{PREFIX + name.upper():<30}{escape(value)}[/]")
    for finding in findings:
        say(f"{'[green]good[/]' if finding.good else '[bold red]bad [/]'}  {finding.check:<12}{finding.what}")
    return 0 if good else 1


async def _examine(current: Settings) -> list[Finding]:
    findings: list[Finding] = []
    for name, check_one in _CHECKS.items():
        try:
            findings.append(Finding(check=name, good=True, what=await check_one(current)))
        except EverpostError as error:
            findings.append(Finding(check=name, good=False, what=str(error)))
    return findings


class _Amiss(EverpostError):
    """A check's own finding."""


async def _python(_current: Settings) -> str:
    return sys.version.split()[0]


async def _disk(current: Settings) -> str:
    place = next(path for path in (current.home, *current.home.parents) if path.exists())
    free = shutil.disk_usage(place).free
    if free < _ROOM:
        raise _Amiss(f"{free / 1e9:.1f} GB are free at {place}; Kafka and Postgres need 1 GB: make room")
    return f"{free / 1e9:.0f} GB free at {place}"


async def _topics(current: Settings) -> str:
    wanted = table(current.partitions)
    drift = await asyncio.to_thread(check, current.bootstrap_servers, wanted, current.replication)
    if drift:
        raise _Amiss("; ".join(drift) + "; see everpost topics check")
    return f"{len(wanted)} topics as the table says"


async def _postgres(current: Settings) -> str:
    async with pool(current) as connections, session(connections) as connection:
        version = await connection.fetchval("show server_version")
        skew = abs((await connection.fetchval("select clock_timestamp()") - clock()).total_seconds())
    if skew > _SKEW:
        raise _Amiss(f"its clock is {skew:.0f} s from ours: set both by NTP, or expiry and retries go wrong")
    return f"PostgreSQL {version}"


async def _ids(current: Settings) -> str:
    await asyncio.to_thread(wire(current).ready)
    return f"ids from {current.schema_registry_url or 'the lock file'}"


async def _catalogue(current: Settings) -> str:
    return f"{len(catalogue(current).types)} event types"


async def _connectors(current: Settings) -> str:
    known = {entry.name for entry in entry_points(group="everpost.connectors")}
    named = {name for names in current.providers.values() for name in names} | current.rates.keys()
    if unknown := sorted(named - known):
        raise _Amiss(f"no connector {', '.join(unknown)}; known: {', '.join(sorted(known))}")
    for variable in sorted(os.environ):
        if variable.startswith(CONNECTOR_PREFIX):
            rest = variable.removeprefix(CONNECTOR_PREFIX).lower()
            if not any(rest.startswith(f"{name}_") for name in known):
                raise _Amiss(
                    f"{variable} names no connector and option; connectors: {', '.join(sorted(known))}"
                )
    return ", ".join(f"{channel} by {' and '.join(names)}" for channel, names in current.providers.items())


_CHECKS: Mapping[str, Check] = {
    "python": _python,
    "disk": _disk,
    "topics": _topics,
    "postgres": _postgres,
    "schema ids": _ids,
    "catalogue": _catalogue,
    "connectors": _connectors,
}
