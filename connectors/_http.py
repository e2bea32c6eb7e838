"""One POST by pyreqwest (hyper and rustls, in Rust): one request, and what came back or is known of its fate.

Measured against aiohttp in decision page 0011: half its processor time, and errors that tell more.
hyper repeats by itself only what the server has not processed: a request that found its idle connection
closed before a byte was written, and a stream that the server refuses (REFUSED_STREAM, or above the last
one of a GOAWAY; RFC 9113, 8.7). Redirects are not followed, bodies are read up to a limit and never
unpacked: an answer of a few kilobytes must not unfold into gigabytes.

A send that is cancelled is not taken back: its request goes on without us until it is answered or its time
is up. Whoever cancels does not know whether it was sent, as with every other request that is under way.

The address of a host is looked up by the client, so it is for hosts that the operator names. Endpoints
that users give go by `_post.py`.
"""

import asyncio
from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path
from typing import Any

from pyreqwest.client import Client, ClientBuilder
from pyreqwest.exceptions import DetailedPyreqwestError, PyreqwestError
from pyreqwest.http import Url
from pyreqwest.response import Response

from connectors._answer import MAX_BODY, Answer, Fate, NoAnswer
from connectors._in_flight import InFlight
from connectors.contract import BadOptions

_IDLE = timedelta(seconds=15)  # after which a connection is not trusted: a race with its end loses a message
_BEFORE = 0.5  # of the timeout, for a place and for a connection: whoever has none by then has sent nothing
# hyper's word for "no connection came about", so nothing was written. Its class says nothing: a hang-up
# after the write is a ConnectError, and an answer that never comes a ConnectTimeoutError (0011).
_NO_CONNECTION = "client error (Connect)"
_REFUSED = "refused stream"  # after hyper's own repeats: the server declares that it has processed none


class Http:
    """Keeps connections, at most `at_once` requests under way. Make it inside the running event loop.

    `timeout`: seconds for a request, connecting included; half of that for a place, when all are taken.
    With `ca_file` its authorities are trusted beside the system's. Raises BadOptions.
    """

    def __init__(self, *, ca_file: Path | None, timeout: float, at_once: int) -> None:
        self._client: Client | None = _client(ca_file, timeout)
        self._timeout = timeout
        self._free = asyncio.Semaphore(at_once)
        self._in_flight = InFlight()

    async def post(self, url: str, body: bytes, headers: Mapping[str, str]) -> Answer:
        """POST once. Raises NoAnswer."""
        client = self._client
        if client is None or self._in_flight.closed:
            raise NoAnswer("unsent", "closed")
        with self._in_flight:
            if (
                self._free.locked()
            ):  # a sender has no more under way; others wait, within a limit of their own
                await self._wait()
            else:
                await self._free.acquire()
            try:
                return await _post(client, url, body, headers)
            except PyreqwestError as error:
                raise NoAnswer(_fate(error), type(error).__name__) from error
            finally:
                self._free.release()

    async def _wait(self) -> None:
        try:
            async with asyncio.timeout(self._timeout * _BEFORE):
                await self._free.acquire()
        except TimeoutError as error:
            raise NoAnswer("unsent", "TimeoutError") from error

    async def aclose(self) -> None:
        """Let what is in flight finish, then close every connection."""
        await self._in_flight.drained()
        self._client = None  # it closes its connections when nobody has it any more, not by its `close`


def _client(ca_file: Path | None, timeout: float) -> Client:
    builder = (
        ClientBuilder()
        .http1_only()
        .https_only(enable=True)
        .no_proxy()
        .follow_redirects(enable=False)
        .timeout(timedelta(seconds=timeout))
        .connect_timeout(timedelta(seconds=timeout * _BEFORE))
        .pool_idle_timeout(_IDLE)
    )
    for unpack in (builder.gzip, builder.brotli, builder.zstd, builder.deflate):
        unpack(enable=False)
    try:
        if ca_file is not None:
            builder.add_root_certificate_pem(ca_file.read_bytes())
        return builder.build()
    except (PyreqwestError, ValueError, OSError) as error:
        raise BadOptions(f"option 'ca_file': {ca_file} holds no certificates in PEM: {error}") from error


async def _post(client: Client, url: str, body: bytes, headers: Mapping[str, str]) -> Answer:
    request = client.post(Url(url)).headers(headers).body_bytes(body).build_streamed()
    async with request as response:
        return Answer(
            status=response.status,
            body=await _body(response),
            retry_after=response.get_header("retry-after"),
            location=response.get_header("location") or "",
        )


def _fate(error: PyreqwestError) -> Fate:
    causes = [cause["message"] for cause in _causes(error)]
    if _NO_CONNECTION in causes:
        return "untrusted" if any("peer certificate" in cause for cause in causes) else "unsent"
    return "unsent" if any(_REFUSED in cause for cause in causes) else "lost"


def _causes(error: PyreqwestError) -> Any:
    return (error.details.get("causes") if isinstance(error, DetailedPyreqwestError) else None) or ()


async def _body(response: Response) -> str:
    """The body; empty when it breaks off or is no answer by its size, which also ends the connection."""
    length = response.get_header("content-length") or ""
    try:
        if length.isdecimal() and int(length) <= MAX_BODY:
            body = bytes(await response.bytes())
        else:
            body = await _chunks(response)
    except PyreqwestError:
        return ""
    return body.decode("utf-8", "replace")


async def _chunks(response: Response) -> bytes:
    """A body whose length was not announced, or is announced as too large; then nothing."""
    body = b""
    while chunk := await response.body_reader.read(MAX_BODY):
        body += bytes(chunk)
        if len(body) > MAX_BODY:
            return b""
    return body
