"""All local providers in one process, until it is told to stop.

DIR/certs/           keys and certificates, made once
DIR/received.jsonl   every request, appended
DIR/ports.json       the ports, taken again after a restart when they are free
DIR/sandboxes.json   written when everything listens: process id, control address, connector options;
                     after a kill it is there until the next start, so compare the process id
"""

import asyncio
import json
import os
import signal
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import AsyncExitStack
from pathlib import Path

from connectors.sandbox import apns, control, fcm, smtp, twilio, vonage, webhook, webpush
from connectors.sandbox.certs import Certs
from connectors.sandbox.desk import Desk, Running, wall_clock
from connectors.sandbox.faults import Fault, Script
from connectors.sandbox.record import Recorder

Start = Callable[[Desk, int], Awaitable[Running]]

READY = "sandboxes.json"
PROVIDERS: Mapping[str, Start] = {
    "apns": apns.start,
    "fcm": fcm.start,
    "webpush": webpush.start,
    "vonage": vonage.start,
    "twilio": twilio.start,
    "smtp": smtp.start,
    "webhook": webhook.start,
}


async def serve(directory: Path, faults: Sequence[Fault] = ()) -> None:
    """Run every provider and the control door until SIGTERM or SIGINT."""
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    async with AsyncExitStack() as stack:
        await launch(directory, faults, stack)
        await stop.wait()


async def launch(directory: Path, faults: Sequence[Fault], stack: AsyncExitStack) -> None:
    """Start everything, each closed by `stack`, then write DIR/sandboxes.json."""
    _prepare(directory)
    recorder = Recorder(directory / "received.jsonl")
    stack.callback(recorder.close)
    desk = Desk(recorder=recorder, script=Script(), certs=Certs.at(directory / "certs"), clock=wall_clock)
    ports = _earlier_ports(directory)
    running: dict[str, Running] = {}
    starts: dict[str, Start] = {"control": control.start, **PROVIDERS}
    for name, start in starts.items():
        running[name] = await _start(start, desk, ports.get(name, 0))
        stack.push_async_callback(running[name].aclose)
    _write(directory / "ports.json", {name: one.port for name, one in running.items()})
    desk.script.extend(faults, desk.steady())
    options = {name: value for one in running.values() for name, value in one.options.items()}
    control_url = f"http://127.0.0.1:{running['control'].port}"
    _write(directory / READY, {"pid": os.getpid(), "control": control_url, "options": options})


def _prepare(directory: Path) -> None:
    directory.mkdir(parents=True, exist_ok=True)
    (directory / READY).unlink(missing_ok=True)  # whoever waits for it must not see the last run's


async def _start(start: Start, desk: Desk, port: int) -> Running:
    """On the same port as before when it is free, so that a restart finds its clients again."""
    try:
        return await start(desk, port)
    except OSError:
        if port == 0:
            raise
        return await start(desk, 0)


def _earlier_ports(directory: Path) -> dict[str, int]:
    file = directory / "ports.json"
    return json.loads(file.read_text()) if file.exists() else {}


def _write(file: Path, content: object) -> None:
    """Atomically: a reader sees the whole file or none."""
    new = file.with_suffix(".new")
    new.write_text(json.dumps(content, indent=2) + "\n")
    new.replace(file)
