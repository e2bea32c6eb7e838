"""Rigs: how the conformance suite of connectors brings up one provider and one connector."""

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Protocol
from uuid import UUID

import psutil

from connectors import apns, fcm
from connectors.contract import Accepted, Connector, Content, Message, Outcome
from connectors.sandbox import apns as local_apns
from connectors.sandbox import fcm as local_fcm
from connectors.sandbox.certs import Certs
from connectors.sandbox.desk import Desk, Running, wall_clock
from connectors.sandbox.faults import Fault, Script
from connectors.sandbox.record import Recorder

TIMEOUT = 1.0  # seconds that a connector gives its provider where a test waits for the timeout itself
PATIENCE = 15.0  # seconds where it must not be met, on a machine as busy as it likes


class Located(Protocol):
    """A local provider, in this process or in another."""

    @property
    def port(self) -> int:
        """Where it listens on 127.0.0.1."""
        ...

    @property
    def options(self) -> Mapping[str, str]:
        """The EVERPOST_CONNECTOR_* variables that point a connector at it."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Rig:
    """One provider with its connector, and what differs from the common case.

    The faults are those that mean the same for every provider, in the provider's own codes.
    """

    name: str  # of the connector and of the provider
    start: Callable[[Desk, int], Awaitable[Running]]
    create: Callable[[Mapping[str, str]], Connector]
    address: Callable[[Located, int], str]  # the n-th valid address, n >= 0
    malformed: str = "no address"  # never an address of this channel
    busy: Fault = field(default_factory=lambda: Fault(kind="status", status=503))  # Transient
    throttled: Fault = field(  # Throttled
        default_factory=lambda: Fault(kind="status", status=429, retry_after="7")
    )
    retry_after: float | None = 7.0  # seconds that Throttled must carry; None: this protocol has none
    single: Mapping[str, str] = field(default_factory=lambda: {"connections": "1"})  # one connection
    streams: int = 1  # sends that such a connection takes at once
    wide: Mapping[str, str] = field(default_factory=lambda: {"connections": "60"})  # 60 sends at once
    garbage: Fault = field(  # Transient or Uncertain: an answer that no client can read
        default_factory=lambda: Fault(kind="status", status=502, body="<html>bad gateway</html>")
    )


RIGS: tuple[Rig, ...] = (
    Rig(
        name="apns",
        start=local_apns.start,
        create=apns.create,
        address=lambda _running, number: f"{number:064x}",
        retry_after=None,  # Apple sends none
        streams=100,
        wide={},
    ),
    Rig(
        name="fcm",
        start=local_fcm.start,
        create=fcm.create,
        address=lambda _running, number: f"device-{number:08}:APA91b-sandbox",
        single={},  # one at a time needs no more
        wide={},
    ),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Bench:
    """A running provider and a connector that points at it."""

    rig: Rig
    desk: Desk
    provider: Running
    connector: Connector

    def fault(self, fault: Fault) -> None:
        """Put a fault in force, for messages (and not for what else a provider is asked, such as tokens)."""
        self.desk.script.extend([replace(fault, provider=self.rig.name)], self.desk.steady())

    def message(self, number: int = 0) -> Message:
        """The n-th message: own delivery id, own address."""
        return message(self.rig, self.provider, number)

    async def send(self, number: int = 0) -> Outcome:
        """Send the n-th message."""
        return await self.connector.send(self.message(number))

    async def seen(self, number: int) -> str:
        """How the provider names the n-th address, learned from a message that it accepts."""
        assert isinstance(await self.send(number), Accepted)
        return self.desk.recorder.rows()[-1].address

    @property
    def requests(self) -> int:
        """How many requests the provider has read."""
        return len(self.desk.recorder.rows())


def message(rig: Rig, provider: Located, number: int) -> Message:
    """The n-th message to a provider: own delivery id, own address."""
    return Message(
        delivery_id=delivery_id(number),
        event_id=f"event-{number}",
        address=rig.address(provider, number),
        content=Content(
            title="Flight UA 17 is cancelled",
            text="Your flight to Denver, 18:05, is cancelled. Ünïcode: ✈",
            html="<p>Your flight is cancelled.</p>",
            link="https://example.com/flights/17",
        ),
        collapse_key="flight-17",
    )


def delivery_id(number: int) -> str:
    """The n-th delivery id."""
    return str(UUID(int=0x5EED_0000_0000_5000_8000_000000000000 + number))


def connector_options(rig: Rig, running: Located, *, limit: float = TIMEOUT) -> dict[str, str]:
    """The options as a sender hands them over: prefix removed, lower case."""
    prefix = f"EVERPOST_CONNECTOR_{rig.name.upper()}_"
    options = {name.removeprefix(prefix).lower(): value for name, value in running.options.items()}
    return options | {"timeout": str(limit)}


@asynccontextmanager
async def bench(
    rig: Rig, certs: Path, *, limit: float = TIMEOUT, options: Mapping[str, str] | None = None
) -> AsyncGenerator[Bench]:
    """Provider and connector, both closed at the end. `certs`: a directory kept for the whole session."""
    desk = Desk(recorder=Recorder(), script=Script(), certs=Certs.at(certs), clock=wall_clock)
    provider = await rig.start(desk, 0)
    try:
        connector = rig.create(connector_options(rig, provider, limit=limit) | dict(options or {}))
        try:
            yield Bench(rig=rig, desk=desk, provider=provider, connector=connector)
        finally:
            await connector.aclose()
    finally:
        await provider.aclose()
        # A handshake that was cut short ends only when the loop has read it: left open, a later test is blamed.
        await until(lambda: not sockets(provider.port))


def sockets(port: int) -> list[str]:
    """The TCP sockets of this process that have to do with a port."""
    return [str(c) for c in psutil.Process().net_connections("tcp") if port in (c.laddr[1:2] + c.raddr[1:2])]


def connections(port: int) -> int:
    """How many connections this process holds to a port."""
    return sum(port in c.raddr[1:2] for c in psutil.Process().net_connections("tcp"))


async def until(condition: Callable[[], bool], seconds: float = 20.0) -> None:
    """Wait until a condition holds; TimeoutError when it never does."""
    async with asyncio.timeout(seconds):
        while not condition():  # noqa: ASYNC110 - what is awaited lives in a provider that knows no events
            await asyncio.sleep(0.005)
