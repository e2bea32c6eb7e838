"""Many sends by one connector, and what is left of them: `python -m tests.contract.soak --sends 100000`.

The local providers are a process of their own, so what grows here is the connector's. Every tenth address
is dead. Growth is counted after a warm-up, when pools and caches have their size: bytes of live Python
objects exactly, by tracemalloc, and the process's resident memory, where the allocator's own noise is
allowed for.
"""

import argparse
import asyncio
import gc
import json
import subprocess
import sys
import tempfile
import time
import tracemalloc
from collections import Counter
from collections.abc import AsyncGenerator, Generator, Mapping
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path

import psutil

from connectors.contract import Accepted, Connector, InvalidAddress
from tests.contract.rigs import PATIENCE, RIGS, Rig, connections, connector_options, message, until
from tests.contract.rigs_b import RIGS as MORE_RIGS

_WARM = 500  # sends before the first measurement
_IN_FLIGHT = 50
# Bytes of live Python objects a message. h2 remembers 65,536 closed streams, about 110 bytes each, by which
# it tells a late answer from a broken server; the others keep less than ten.
_MOST_OBJECTS = 256.0
_MOST_MEMORY = 1024.0  # bytes of resident memory a message ...
_NOISE = 8 * 2**20  # ... beside what the allocator takes and gives, in bytes
_START = 30.0  # seconds until the local providers listen
_FAULTS = [{"kind": "dead", "share": 0.1}]


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """One of the local providers."""

    port: int
    options: Mapping[str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Local:
    """The local providers in their own process."""

    options: Mapping[str, str]
    ports: Mapping[str, int]

    def place(self, name: str) -> Place:
        """The provider of a connector."""
        prefix = f"EVERPOST_CONNECTOR_{name.upper()}_"
        own = {key: value for key, value in self.options.items() if key.startswith(prefix)}
        return Place(port=self.ports[name], options=own)


@dataclass(frozen=True, slots=True, kw_only=True)
class Left:
    """What is left of many sends."""

    sends: int
    seconds: float
    outcomes: Mapping[str, int]
    tasks: int  # more than before the connector was there
    sockets: int  # to the provider, after it was closed
    descriptors: int  # open files more than before
    objects: float  # bytes of live Python objects a message
    memory: int  # bytes of resident memory, in all

    def complaints(self) -> list[str]:
        """What should not be."""
        most = self.sends * _MOST_MEMORY + _NOISE
        checks = {
            "outcomes": not self.outcomes.keys() - {Accepted.__name__, InvalidAddress.__name__},
            "tasks": self.tasks <= 0,
            "sockets": self.sockets == 0,
            "descriptors": self.descriptors <= 0,
            "objects": self.objects < _MOST_OBJECTS,
            "memory": self.memory < most,
        }
        return [f"{name}: {getattr(self, name)}" for name, good in checks.items() if not good]


@contextmanager
def providers(directory: Path) -> Generator[Local]:
    """Start the local providers in `directory`, and stop them."""
    faults = directory / "faults.json"
    faults.write_text(json.dumps(_FAULTS))
    command = ("-m", "connectors.sandbox", "--dir", str(directory), "--seed-faults", str(faults))
    process = subprocess.Popen([sys.executable, *command])
    try:
        ready, until_then = directory / "sandboxes.json", time.monotonic() + _START
        while not ready.exists():
            assert process.poll() is None, "the local providers have ended"
            assert time.monotonic() < until_then, "the local providers do not listen"
            time.sleep(0.05)
        options = json.loads(ready.read_text())["options"]
        yield Local(options=options, ports=json.loads((directory / "ports.json").read_text()))
    finally:
        process.terminate()
        process.wait(_START)


async def run(rig: Rig, local: Local, sends: int) -> Left:
    """Send so many messages, and measure what is left."""
    place = local.place(rig.name)
    process = psutil.Process()
    async with _connector(rig, place) as connector:  # what a library opens once for the whole process
        await _send(rig, place, connector, 0, 1)
    await until(lambda: connections(place.port) == 0)
    tasks, descriptors = len(asyncio.all_tasks()), process.num_fds()
    async with _connector(rig, place) as connector, _traced():
        await _send(rig, place, connector, 0, _WARM)
        objects, memory = _objects(), process.memory_info().rss
        started = time.monotonic()
        outcomes = await _send(rig, place, connector, _WARM, _WARM + sends)
        seconds = time.monotonic() - started
        objects, memory = _objects() - objects, process.memory_info().rss - memory
    await until(lambda: connections(place.port) == 0)
    return Left(
        sends=sends,
        seconds=seconds,
        outcomes=outcomes,
        tasks=len(asyncio.all_tasks()) - tasks,
        sockets=connections(place.port),
        descriptors=process.num_fds() - descriptors,
        objects=objects / sends,
        memory=memory,
    )


@asynccontextmanager
async def _connector(rig: Rig, place: Place) -> AsyncGenerator[Connector]:
    connector = rig.create(connector_options(rig, place, limit=PATIENCE))
    try:
        yield connector
    finally:
        await connector.aclose()


@asynccontextmanager
async def _traced() -> AsyncGenerator[None]:
    tracemalloc.start()
    try:
        yield
    finally:
        tracemalloc.stop()


def _objects() -> int:
    """Bytes of live Python objects."""
    gc.collect()
    return tracemalloc.get_traced_memory()[0]


async def _send(rig: Rig, place: Place, connector: Connector, first: int, end: int) -> dict[str, int]:
    """Messages `first` to `end`, several at once: how many of each outcome."""
    outcomes: Counter[str] = Counter()
    numbers = iter(range(first, end))

    async def work() -> None:
        for number in numbers:
            outcome = await connector.send(message(rig, place, number))
            outcomes[type(outcome).__name__] += 1

    async with asyncio.TaskGroup() as group:
        for _ in range(min(connector.capacity, _IN_FLIGHT)):
            group.create_task(work())
    return dict(outcomes)


def main() -> int:
    """Run it for each connector; 1 when something is left that should not be."""
    rigs = {rig.name: rig for rig in (*RIGS, *MORE_RIGS)}
    parser = argparse.ArgumentParser(prog="python -m tests.contract.soak", description=__doc__)
    parser.add_argument("--sends", type=int, default=100_000)
    parser.add_argument("--connector", choices=sorted(rigs), action="append")
    arguments = parser.parse_args()
    good = True
    with tempfile.TemporaryDirectory() as scratch, providers(Path(scratch)) as local:
        for name in arguments.connector or sorted(rigs):
            left = asyncio.run(run(rigs[name], local, arguments.sends))
            good = good and not left.complaints()
            print(  # noqa: T201 - a command
                f"{name:<8} {left.sends} sends, {left.sends / left.seconds:.0f}/s, {left.objects:.1f} bytes of "
                f"objects a message, {left.memory / 1024:.0f} KiB of memory in all; "
                f"left: {left.complaints() or 'nothing'}",
                flush=True,
            )
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
