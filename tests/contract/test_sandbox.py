"""`python -m connectors.sandbox` as a process: its files, its control door, its end, its restart."""

import asyncio
import json
import signal
import socket
import sys
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from connectors import apns
from connectors.contract import Accepted, Content, InvalidAddress, Message, Outcome
from connectors.sandbox.serve import PROVIDERS
from tests.contract.rigs import delivery_id, until

pytestmark = pytest.mark.faults
PREFIX = "EVERPOST_CONNECTOR_APNS_"


@asynccontextmanager
async def sandbox(directory: Path, *arguments: str) -> AsyncGenerator[asyncio.subprocess.Process]:
    """The process, ready; killed at the end when it still runs."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "connectors.sandbox", "--dir", str(directory), *arguments
    )
    try:
        await until(lambda: writer(directory) == process.pid, seconds=20)
        yield process
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


def writer(directory: Path) -> int | None:
    """The process that wrote sandboxes.json; None when there is none."""
    try:
        return json.loads((directory / "sandboxes.json").read_text())["pid"]
    except FileNotFoundError:
        return None


def described(directory: Path) -> tuple[str, dict[str, str]]:
    """Control address and options."""
    content = json.loads((directory / "sandboxes.json").read_text())
    return content["control"], content["options"]


async def push(directory: Path, number: int) -> Outcome:
    """Send one push with the options as they are written down."""
    _, options = described(directory)
    mine = {
        name.removeprefix(PREFIX).lower(): value for name, value in options.items() if name.startswith(PREFIX)
    }
    connector = apns.create(mine)
    message = Message(
        delivery_id=delivery_id(number), event_id="e", address=f"{number:064x}", content=Content(text="Hi")
    )
    try:
        return await connector.send(message)
    finally:
        await connector.aclose()


async def ask(method: str, url: str, body: object = None) -> tuple[int, str]:
    """One request to the control door."""
    async with aiohttp.ClientSession() as http, http.request(method, url, json=body) as response:
        return response.status, await response.text()


async def received(control: str) -> list[dict[str, Any]]:
    """All rows."""
    _, text = await ask("GET", f"{control}/received")
    return [json.loads(line) for line in text.splitlines()]


async def test_every_provider_listens_and_says_where(tmp_path: Path) -> None:
    """The file appears when all listen, and names options for each connector."""
    async with sandbox(tmp_path) as process:
        _, options = described(tmp_path)
        names = {name.split("_")[2].lower() for name in options}
        assert names == set(PROVIDERS)
        assert isinstance(await push(tmp_path, 1), Accepted)
        process.send_signal(signal.SIGTERM)
        assert await asyncio.wait_for(process.wait(), 60) == 0


async def test_the_control_door_takes_and_drops_faults(tmp_path: Path) -> None:
    """What is posted is in force at once; a mistake is refused; deleting ends it."""
    seeds = tmp_path / "faults.json"
    seeds.write_text('[{"kind": "dead", "provider": "apns", "times": 1}]')
    async with sandbox(tmp_path / "run", "--seed-faults", str(seeds)):
        control, _ = described(tmp_path / "run")
        assert isinstance(await push(tmp_path / "run", 1), InvalidAddress)
        assert isinstance(await push(tmp_path / "run", 2), Accepted)
        assert (await ask("POST", f"{control}/faults", [{"kind": "dead"}]))[0] == 200
        assert (await ask("POST", f"{control}/faults", [{"kind": "ded"}]))[0] == 400
        assert isinstance(await push(tmp_path / "run", 3), InvalidAddress)
        assert json.loads((await ask("GET", f"{control}/faults"))[1])[1:] == [{"kind": "dead"}]
        assert (await ask("DELETE", f"{control}/faults"))[0] == 204
        assert isinstance(await push(tmp_path / "run", 4), Accepted)
        assert [row["accepted"] for row in await received(control)] == [False, True, False, True]
        summary = json.loads((await ask("GET", f"{control}/summary"))[1])["apns"]
        assert (summary["received"], summary["accepted"], summary["repeats"]) == (4, 2, 0)


async def test_a_killed_sandbox_comes_back_as_it_was(tmp_path: Path) -> None:
    """After kill -9 the next one has the same addresses, keys and rows, and goes on."""
    async with sandbox(tmp_path) as process:
        before = described(tmp_path)
        assert isinstance(await push(tmp_path, 1), Accepted)
        process.kill()
        await process.wait()
    async with sandbox(tmp_path):
        assert described(tmp_path) == before
        assert isinstance(await push(tmp_path, 2), Accepted)
        rows = await received(before[0])
        assert [row["delivery_id"] for row in rows] == [delivery_id(1), delivery_id(2)]


async def test_a_taken_port_is_replaced(tmp_path: Path) -> None:
    """A port that someone else has taken meanwhile is no reason not to start."""
    async with sandbox(tmp_path):
        ports = json.loads((tmp_path / "ports.json").read_text())
    with socket.create_server(("127.0.0.1", ports["apns"])):
        async with sandbox(tmp_path):
            assert json.loads((tmp_path / "ports.json").read_text())["apns"] != ports["apns"]
            assert isinstance(await push(tmp_path, 1), Accepted)


async def test_wrong_arguments_are_explained(tmp_path: Path) -> None:
    """A script that cannot be read ends the process with code 2 and the reason."""
    seeds = tmp_path / "faults.json"
    seeds.write_text('[{"kind": "ded"}]')
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "connectors.sandbox", "--dir", str(tmp_path), "--seed-faults", str(seeds)),
        stderr=asyncio.subprocess.PIPE,
    )
    _, complaint = await asyncio.wait_for(process.communicate(), 60)
    assert process.returncode == 2
    assert b"0.kind" in complaint
