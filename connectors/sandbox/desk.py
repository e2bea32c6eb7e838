"""What a local provider is given, and what it gives back.

A provider module offers `async def start(desk: Desk, port: int = 0) -> Running`. For each request it
makes a `Call`, asks `desk.meet(call)` which fault meets it, decides its `Answer`, writes that down with
`desk.record(call, answer, fault)` as soon as the request is read, and only then waits and answers.
"""

import asyncio
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Protocol, assert_never

from connectors.sandbox.certs import Certs
from connectors.sandbox.faults import Fault, Kind, Script
from connectors.sandbox.record import Received, Recorder

SILENT: frozenset[Kind] = frozenset({"hang_up", "never", "reset"})  # the client gets no answer


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """A request as a provider reads it."""

    provider: str
    delivery_id: str
    address: str
    content: Mapping[str, str] = field(default_factory=dict[str, str])
    identity: Mapping[str, str] = field(default_factory=dict[str, str])


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What a provider says."""

    status: int
    reason: str = ""  # the provider's word, for example Unregistered
    body: str = ""
    headers: Mapping[str, str] = field(default_factory=dict[str, str])
    accepted: bool = False

    def __str__(self) -> str:
        return f"{self.status} {self.reason}".strip()


@dataclass(frozen=True, slots=True, kw_only=True)
class Desk:
    """The parts that all local providers share."""

    recorder: Recorder
    script: Script
    certs: Certs
    clock: Callable[[], datetime]  # the time of day, aware, UTC
    steady: Callable[[], float] = time.monotonic  # the clock of the fault script, seconds

    def meet(self, call: Call) -> Fault | None:
        """The fault that meets this call; counted as used."""
        return self.script.meet(
            provider=call.provider, address=call.address, delivery_id=call.delivery_id, now=self.steady()
        )

    def record(self, call: Call, answer: Answer, fault: Fault | None) -> None:
        """Write the call down with what becomes of it."""
        self.recorder.add(received(call, answer, fault, self.clock()))


def received(call: Call, answer: Answer, fault: Fault | None, at: datetime) -> Received:
    """The row for a call: a fault without an answer is recorded by its name."""
    return Received(
        provider=call.provider,
        delivery_id=call.delivery_id,
        address=call.address,
        at=at,
        accepted=takes(answer, fault),
        status=fault.kind if fault and fault.kind in SILENT else str(answer),
        content=call.content,
        identity=call.identity,
    )


def takes(answer: Answer, fault: Fault | None) -> bool:
    """Whether the message reaches the device. `answer` is what the provider would say to this call."""
    if fault is None:
        return answer.accepted
    match fault.kind:
        case "delay" | "goaway":
            return answer.accepted
        case "hang_up" | "never" | "reset":
            return answer.accepted and fault.processed
        case "status":
            return fault.processed
        case "dead":
            return False
        case _:
            assert_never(fault.kind)


async def linger(fault: Fault | None) -> None:
    """Wait as long as the fault says before anything is answered."""
    if fault is not None and fault.seconds:
        await asyncio.sleep(fault.seconds)


def wall_clock() -> datetime:
    """Now, aware, UTC: the clock of a Desk outside of tests."""
    return datetime.now(UTC)  # noqa: TID251 - the sandboxes are a process of their own, with its own clock


class Running(Protocol):
    """A local provider that listens."""

    @property
    def port(self) -> int:
        """Where it listens on 127.0.0.1."""
        ...

    @property
    def options(self) -> Mapping[str, str]:
        """The EVERPOST_CONNECTOR_* variables that point a connector at it."""
        ...

    async def aclose(self) -> None:
        """Close the port and every connection."""
        ...
