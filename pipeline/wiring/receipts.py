"""The door for receipts, put together."""

import asyncio
from collections.abc import Callable, Mapping
from importlib import import_module
from importlib.metadata import entry_points

from connectors.contract import BadOptions, Callback, Receiver
from pipeline.adapters.http.door import door
from pipeline.adapters.postgres.receipts import PostgresOwners
from pipeline.model.errors import ConfigurationError
from pipeline.observe import Log, heartbeat
from pipeline.settings import Settings, connector_options
from pipeline.stages.receive.step import Tools, take
from pipeline.wiring import Stage, clock, loop, pool, wire

_BEAT = 1.0  # seconds
_log = Log(__name__)


def run(stage: Stage, settings: Settings) -> None:
    """Listen until SIGTERM or SIGINT."""
    asyncio.run(_listen(settings, stage))


async def _listen(settings: Settings, stage: Stage) -> None:
    host, port = _place(settings)
    receivers = receiving()
    async with (
        loop.until_told() as stop,
        pool(settings) as connections,
        loop.producer(settings, stage) as producer,
    ):
        tools = Tools(
            receivers=receivers,
            owners=PostgresOwners(connections),
            producer=producer,
            wire=wire(settings),
            clock=clock,
        )

        async def handle(provider: str, query: str, headers: Mapping[str, str], body: bytes) -> int:
            return await take(tools, provider, Callback(query=query, headers=headers, body=body))

        try:
            async with door(handle, host, port) as found:
                _log.info("stage.started", port=found, providers=sorted(receivers))
                await _until(stop)
        except OSError as error:
            raise ConfigurationError(
                f"cannot listen at {settings.receipts}: {error}; set EVERPOST_RECEIPTS"
            ) from error


async def _until(stop: asyncio.Event) -> None:
    while not stop.is_set():
        heartbeat.beat()
        try:
            await asyncio.wait_for(stop.wait(), _BEAT)
        except TimeoutError:
            continue


def _place(settings: Settings) -> tuple[str, int]:
    if settings.receipts is None:
        raise ConfigurationError("set EVERPOST_RECEIPTS to where receipts come in, such as 127.0.0.1:8080")
    host, _, port = settings.receipts.rpartition(":")
    return host.strip("[]"), int(port)


def receiving() -> Mapping[str, Receiver]:
    """Who reads the callbacks of each provider that has what it takes. Raises ConfigurationError."""
    found: dict[str, Receiver] = {}
    missing = list[str]()
    for entry in entry_points(group="everpost.connectors"):
        options = connector_options(entry.name)
        make: Callable[[Mapping[str, str]], Receiver] | None = (
            getattr(import_module(entry.module), "create_receiver", None) if options else None
        )
        if make is None:
            continue
        try:
            found[entry.name] = make(options)
        except BadOptions as error:
            missing.append(str(error))
    if not found:
        raise ConfigurationError(
            "no provider can be believed: " + ("; ".join(missing) or "none sends receipts")
        )
    for words in missing:
        _log.warning("receipt.refused", reason=words)
    return found
