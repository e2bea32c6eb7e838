"""The door for receipts, put together."""

import asyncio
from collections.abc import Callable, Mapping
from functools import partial
from importlib import import_module
from importlib.metadata import entry_points

from connectors.contract import BadOptions, Callback, Receiver
from pipeline.adapters.http.door import Handle, door
from pipeline.adapters.postgres.profiles import PostgresPreferences
from pipeline.adapters.postgres.receipts import PostgresOwners
from pipeline.model.errors import ConfigurationError
from pipeline.observe import Log, heartbeat
from pipeline.settings import Settings, connector_options
from pipeline.stages.receive.step import Tools, take
from pipeline.stages.receive.unsubscribe import Desk, visit
from pipeline.wiring import Stage, clock, links, loop, pool, wire

_BEAT = 1.0  # seconds
_log = Log(__name__)


def run(stage: Stage, settings: Settings) -> None:
    """Listen until SIGTERM or SIGINT."""
    asyncio.run(_listen(settings, stage))


async def _listen(settings: Settings, stage: Stage) -> None:
    host, port = _place(settings)
    receivers, seal, codec = receiving(), links(settings), wire(settings)
    if not receivers and seal is None:
        raise ConfigurationError(
            "nothing to listen for: no provider can be believed (set EVERPOST_CONNECTOR_<NAME>_... of one that sends "
            "receipts), and mails have no unsubscribe links (set EVERPOST_UNSUBSCRIBE_URL)"
        )
    async with (
        loop.until_told() as stop,
        pool(settings) as connections,
        loop.producer(settings, stage) as producer,
    ):
        owners, preferences = PostgresOwners(connections), PostgresPreferences(connections)
        tools = Tools(receivers=receivers, owners=owners, producer=producer, wire=codec, clock=clock)
        desk = seal and Desk(links=seal, preferences=preferences, producer=producer, wire=codec, clock=clock)
        try:
            async with door(
                _taking(tools) if receivers else None, desk and partial(visit, desk), host, port
            ) as found:
                _log.info("stage.started", port=found, providers=sorted(receivers), unsubscribe=bool(desk))
                await _until(stop)
        except OSError as error:
            raise ConfigurationError(
                f"cannot listen at {settings.receipts}: {error}; set EVERPOST_RECEIPTS"
            ) from error


def _taking(tools: Tools) -> Handle:
    async def handle(provider: str, query: str, headers: Mapping[str, str], body: bytes) -> int:
        return await take(tools, provider, Callback(query=query, headers=headers, body=body))

    return handle


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
    """Who reads the callbacks of each provider that has what it takes."""
    found: dict[str, Receiver] = {}
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
            _log.warning("receipt.refused", reason=str(error))
    return found
