"""The door that providers call: `GET` or `POST /receipts/<provider>`, small and bounded in every way.

Plain HTTP: behind a proxy that ends TLS. Nothing of a request is trusted here; the handler looks at its signature.
"""

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager

from aiohttp import web

Handle = Callable[[str, str, Mapping[str, str], bytes], Awaitable[int]]
"""Provider, query (encoded), headers (names in lower case), body; gives the status of the answer."""

_LARGEST = 64 * 1024  # bytes of a body
_MOST = 200  # requests at once
_BODY = 10.0  # seconds until a body must be here
_ANSWER = 30.0  # seconds for an answer
_FINISH = 5.0  # seconds for what is in flight when the door closes


@asynccontextmanager
async def door(handle: Handle, host: str, port: int) -> AsyncGenerator[int]:
    """Listen; gives the port (0 asks for a free one). Raises OSError when it is taken."""
    app = web.Application(client_max_size=_LARGEST)
    app.router.add_route("*", "/receipts/{provider}", _Door(handle).answer)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=_FINISH)
    await runner.setup()
    try:
        await web.TCPSite(runner, host, port).start()
        yield runner.addresses[0][1]
    finally:
        await runner.cleanup()


class _Door:
    def __init__(self, handle: Handle) -> None:
        self._handle = handle
        self._inside = 0

    async def answer(self, request: web.Request) -> web.Response:
        if request.method not in ("GET", "POST"):
            return web.Response(status=405, headers={"Allow": "GET, POST"})
        if self._inside >= _MOST:
            return web.Response(status=503, headers={"Retry-After": "5"})
        self._inside += 1
        try:
            return web.Response(status=await self._status(request))
        except TimeoutError:
            return web.Response(status=503, headers={"Retry-After": "5"})
        finally:
            self._inside -= 1

    async def _status(self, request: web.Request) -> int:
        async with asyncio.timeout(_BODY):
            body = await request.read()
        headers = {name.lower(): value for name, value in request.headers.items()}
        async with asyncio.timeout(_ANSWER):
            return await self._handle(
                request.match_info["provider"], request.rel_url.raw_query_string, headers, body
            )
