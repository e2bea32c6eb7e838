"""One POST by aiohttp to an endpoint that a user has given: the address that was checked is the one dialled.

aiohttp repeats no POST by itself. Redirects are not followed, bodies are read up to a limit and never
unpacked: an answer of a few kilobytes must not unfold into gigabytes.
"""

import asyncio
import ssl
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import aiohttp
from aiohttp.abc import AbstractResolver
from yarl import URL

from connectors._answer import MAX_BODY, Answer, Fate, NoAnswer
from connectors._hosts import PrivateOnly
from connectors._in_flight import InFlight


@dataclass(slots=True)
class _Wire:
    written: bool = False


class Poster:
    """Keeps at most `connections` connections. Make it inside the running event loop.

    `timeout`: seconds for a whole request, waiting for a connection included.
    """

    def __init__(
        self,
        *,
        tls: ssl.SSLContext,
        timeout: float,
        connections: int,
        resolver: AbstractResolver,
    ) -> None:
        self._timeout = timeout
        self._in_flight = InFlight()
        trace = aiohttp.TraceConfig()
        trace.on_request_headers_sent.append(_writing)
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(ssl=tls, resolver=resolver, limit=connections),
            cookie_jar=aiohttp.DummyCookieJar(),
            timeout=aiohttp.ClientTimeout(total=None),  # `post` holds the one limit
            auto_decompress=False,
            trace_configs=[trace],
        )

    async def post(self, url: URL | str, body: bytes, headers: Mapping[str, str]) -> Answer:
        """POST once. Raises NoAnswer."""
        if self._in_flight.closed:
            raise NoAnswer("unsent", "closed")
        wire = _Wire()
        try:
            with self._in_flight:
                async with asyncio.timeout(self._timeout):
                    return await self._post(URL(url, encoded=True), body, headers, wire)
        except (aiohttp.ClientError, OSError) as error:
            raise NoAnswer(_fate(error, wire), type(error).__name__) from error

    async def _post(self, url: URL, body: bytes, headers: Mapping[str, str], wire: _Wire) -> Answer:
        async with self._session.post(
            url, data=body, headers=headers, allow_redirects=False, trace_request_ctx=wire
        ) as response:
            return Answer(
                status=response.status,
                body=await _body(response),
                retry_after=response.headers.get("Retry-After"),
                location=response.headers.get("Location", ""),
            )

    async def aclose(self) -> None:
        """Let what is in flight finish, then close every connection."""
        await self._in_flight.drained()
        await self._session.close()


def _fate(error: Exception, wire: _Wire) -> Fate:
    if wire.written:
        return "lost"
    if isinstance(error, aiohttp.ClientConnectorCertificateError):
        return "untrusted"
    if isinstance(error, aiohttp.ClientConnectorError) and isinstance(error.os_error, PrivateOnly):
        return "private"
    return "unsent"


async def _writing(_session: object, context: Any, _facts: object) -> None:
    """Called right before the first byte: from here on it cannot be known that nothing was sent."""
    context.trace_request_ctx.written = True


async def _body(response: aiohttp.ClientResponse) -> str:
    """The body; empty when it breaks off or is no answer by its size, which also ends the connection."""
    body = b""
    try:
        async for chunk in response.content.iter_any():
            body += chunk
            if len(body) > MAX_BODY:
                return ""
    except (aiohttp.ClientError, OSError):
        return ""
    return body.decode("utf-8", "replace")
