"""The door that the world calls, small and bounded in every way.

`GET` or `POST /receipts/<provider>` is a provider's, `/u/<token>` the link of a mail. Plain HTTP: behind a proxy that
ends TLS. Nothing of a request is trusted here; the handlers look at signature and seal.
"""

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from functools import partial

from aiohttp import web

Handle = Callable[[str, str, Mapping[str, str], bytes], Awaitable[int]]
"""Provider, query (encoded), headers (names in lower case), body; gives the status of the answer."""

Visit = Callable[[str, bytes | None], Awaitable[tuple[int, str]]]
"""Token, and the body of a POST or None; gives status and page."""

_LARGEST = 64 * 1024  # bytes of a body
_MOST = 200  # requests at once
_BODY = 10.0  # seconds until a body must be here
_ANSWER = 30.0  # seconds for an answer
_FINISH = 5.0  # seconds for what is in flight when the door closes
_LATER = {"Retry-After": "5"}
# A token is a right: no cache keeps the page, no other site learns its address or frames it.
_PAGE = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'; form-action 'self'; "
    "frame-ancestors 'none'; base-uri 'none'",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}


@asynccontextmanager
async def door(handle: Handle | None, visit: Visit | None, host: str, port: int) -> AsyncGenerator[int]:
    """Listen for what has a handler; gives the port (0 asks for a free one). Raises OSError when it is taken."""
    app, bounded = web.Application(client_max_size=_LARGEST), _Bounded()
    if handle is not None:
        app.router.add_route("*", "/receipts/{provider}", bounded.handler(partial(_receipt, handle)))
    if visit is not None:
        app.router.add_route("*", "/u/{token}", bounded.handler(partial(_visit, visit)))
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=_FINISH)
    await runner.setup()
    try:
        await web.TCPSite(runner, host, port).start()
        yield runner.addresses[0][1]
    finally:
        await runner.cleanup()


async def _receipt(handle: Handle, request: web.Request, body: bytes) -> web.Response:
    headers = {name.lower(): value for name, value in request.headers.items()}
    query = request.rel_url.raw_query_string
    return web.Response(status=await handle(request.match_info["provider"], query, headers, body))


async def _visit(visit: Visit, request: web.Request, body: bytes) -> web.Response:
    posted = body if request.method == "POST" else None
    status, page = await visit(request.match_info["token"], posted)
    return web.Response(status=status, text=page, content_type="text/html", headers=_PAGE)


_Answer = Callable[[web.Request, bytes], Awaitable[web.Response]]


class _Bounded:
    """How many requests there are at once, how large and how long each may be."""

    def __init__(self) -> None:
        self._inside = 0

    def handler(self, answer: _Answer) -> Callable[[web.Request], Awaitable[web.Response]]:
        async def bounded(request: web.Request) -> web.Response:
            if request.method not in ("GET", "HEAD", "POST"):
                return web.Response(status=405, headers={"Allow": "GET, HEAD, POST"})
            if self._inside >= _MOST:
                return web.Response(status=503, headers=_LATER)
            self._inside += 1
            try:
                async with asyncio.timeout(_BODY):
                    body = await request.read()
                async with asyncio.timeout(_ANSWER):
                    return await answer(request, body)
            except TimeoutError:
                return web.Response(status=503, headers=_LATER)
            finally:
                self._inside -= 1

        return bounded
