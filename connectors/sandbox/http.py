"""HTTP/1.1 over TLS for the local providers that speak it, with the faults that need the socket."""

import asyncio
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field

from aiohttp import web

from connectors.sandbox.callbacks import Callbacks
from connectors.sandbox.certs import Certs
from connectors.sandbox.desk import SILENT, Answer, Call, Desk, linger
from connectors.sandbox.faults import Fault


@dataclass(frozen=True, slots=True, kw_only=True)
class HttpServer:
    """A local provider over HTTP; fulfils `Running`."""

    runner: web.AppRunner
    port: int
    options: Mapping[str, str] = field(default_factory=dict[str, str])
    callbacks: Callbacks = field(default_factory=Callbacks)

    async def aclose(self) -> None:
        """Close the port and every connection, at once."""
        await self.callbacks.aclose()
        await self.runner.cleanup()


async def serve(
    routes: Iterable[web.AbstractRouteDef], port: int, *, certs: Certs | None = None
) -> HttpServer:
    """Listen on 127.0.0.1; with TLS when `certs` are given. Raises OSError when the port is taken."""
    app = web.Application()
    app.add_routes(routes)
    # No grace on shutdown: a handler that never answers would hold it for the whole time.
    # Cancellation: a handler ends when its client has left, which is what ends a silent one.
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.0, handler_cancellation=True)
    await runner.setup()
    try:
        site = web.TCPSite(
            runner, "127.0.0.1", port, ssl_context=certs.server_context("http/1.1") if certs else None
        )
        await site.start()
    except OSError:
        await runner.cleanup()
        raise
    return HttpServer(runner=runner, port=runner.addresses[0][1])


async def respond(
    request: web.Request, desk: Desk, call: Call, decide: Callable[[Fault | None], Answer]
) -> web.Response:
    """Let the fault script meet the call, write it down, and answer as `decide` says, or not at all.

    `decide` gives the provider's answer: for the faults `status` and `dead` in the provider's own
    form, for every other one (or None) the usual answer.
    """
    fault = desk.meet(call)
    answer = decide(fault)
    desk.record(call, answer, fault)
    return await react(request, answer, fault)


async def react(request: web.Request, answer: Answer, fault: Fault | None) -> web.Response:
    """Answer, or not, as the fault wants it."""
    await linger(fault)
    if fault is not None and fault.kind in SILENT:
        if fault.kind != "never" and request.transport is not None:
            request.transport.close()
        await asyncio.Event().wait()  # cancelled when the connection is gone
    response = web.Response(
        status=answer.status,
        text=answer.body if fault is None or fault.body is None else fault.body,
        headers=dict(answer.headers),
    )
    if fault is not None and fault.kind == "status" and fault.retry_after is not None:
        response.headers["Retry-After"] = fault.retry_after
    if fault is not None and fault.kind == "goaway":
        response.force_close()
    return response
