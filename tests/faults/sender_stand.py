"""What faults are injected into: a broker, a database, local providers, and senders that are started again."""

import json
import subprocess
import sys
import urllib.request
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from connectors.sandbox.record import Received
from pipeline.model.event import Channel
from tests.faults.sender_books import Note
from tests.faults.sender_schedule import CHANNELS, INSTANCES
from tests.faults.stand import Ground, ground
from tests.faults.workers import Workers
from tests.support.services import until

TIMEOUT = 2.0  # seconds that every connector gives its provider
_SCALE = 0.02  # of the retry ladder: 0.2 s, 1.2 s, 12 s, …
_IN_FLIGHT = 100  # records of one sender
# Each request takes a moment, and some take long: at any moment much is in flight, and out of order.
_USUAL: Sequence[Mapping[str, Any]] = (
    {"kind": "delay", "seconds": 0.8, "share": 0.05},
    {"kind": "delay", "seconds": 0.03},
)
_ANSWER = 10.0  # seconds for the providers' control door


@dataclass(frozen=True, slots=True, kw_only=True)
class Providers:
    """The local providers, in a process of their own."""

    directory: Path
    control: str
    options: Mapping[str, str]

    def do(self, *faults: Mapping[str, Any]) -> None:
        """These faults from now on, in place of earlier ones, and else the usual delays."""
        body = json.dumps([*faults, *_USUAL]).encode()
        for method, content in (("DELETE", None), ("POST", body)):
            request = urllib.request.Request(f"{self.control}/faults", content, method=method)
            urllib.request.urlopen(request, timeout=_ANSWER).close()

    def received(self) -> list[Received]:
        """Every request so far."""
        lines = (self.directory / "received.jsonl").read_text().splitlines()
        return [Received.from_json(line) for line in lines]


@dataclass(frozen=True, kw_only=True)
class Stand(Ground):
    """The parts, while they run."""

    providers: Providers
    senders: Mapping[Channel, Workers]
    notes_file: Path

    def notes(self) -> list[Note]:
        """What senders had in flight when they were broken."""
        if not self.notes_file.exists():
            return []
        rows = [json.loads(line) for line in self.notes_file.read_text().splitlines()]
        return [Note(act=row["act"], ids=frozenset(row["ids"])) for row in rows]


@contextmanager
def stand(home: Path, channels: Sequence[Channel], prepare: Callable[[Ground], None]) -> Generator[Stand]:
    """Everything up; the senders of these channels and the retrier once `prepare` has made what they need."""
    with ExitStack() as stack:
        directory = home / "providers"
        command = [sys.executable, "-m", "connectors.sandbox", "--dir", str(directory)]
        process = subprocess.Popen(command)
        stack.callback(_end, process)
        under = stack.enter_context(ground(home))
        prepare(under)
        until((directory / "sandboxes.json").exists)
        ready = json.loads((directory / "sandboxes.json").read_text())
        providers = Providers(directory=directory, control=ready["control"], options=ready["options"])
        providers.do()
        environment = {**under.environment, **_environment(providers)}
        retry = [sys.executable, "-m", "pipeline.cli.main", "run", "retry"]
        under.supervisor.add("retry", retry, environment)
        notes_file = home / "notes.jsonl"
        senders: dict[Channel, Workers] = {}
        for channel in channels:
            senders[channel] = Workers("tests.faults.sender_process", channel, environment, home)
            stack.callback(senders[channel].close)
            for instance in INSTANCES:
                start(senders[channel], channel, instance, notes_file)
        yield Stand(
            servers=under.servers,
            dsn=under.dsn,
            supervisor=under.supervisor,
            providers=providers,
            senders=senders,
            notes_file=notes_file,
        )


def start(senders: Workers, channel: Channel, instance: str, notes_file: Path) -> None:
    """Start a sender and keep it running."""
    senders.up(instance, {"stage": f"send-{channel}", "notes": str(notes_file)})


def _environment(providers: Providers) -> dict[str, str]:
    timeouts = {f"EVERPOST_CONNECTOR_{name.upper()}_TIMEOUT": str(TIMEOUT) for name in CHANNELS.values()}
    return {
        **providers.options,
        **timeouts,
        "EVERPOST_RETRY_SCALE": str(_SCALE),
        "EVERPOST_IN_FLIGHT": str(_IN_FLIGHT),
        "EVERPOST_PROVIDERS": json.dumps(CHANNELS),
    }


def _end(process: "subprocess.Popen[bytes]") -> None:
    process.terminate()
    process.wait(30)
