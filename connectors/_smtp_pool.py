"""Connections to one SMTP relay: a bounded number, one mail at a time on each.

aiosmtplib has no pool, and a transaction that is cancelled in the middle leaves its connection open with
a reply outstanding: the next mail would read it as its own. So a connection comes back only from a
transaction that ended well; on anything else it is closed at once.
"""

import asyncio
import contextlib
import ssl
import time
from collections.abc import AsyncGenerator
from dataclasses import dataclass, field
from typing import Literal, cast

import aiosmtplib

Tls = Literal["none", "starttls", "tls"]

_IDLE = 30.0  # seconds; Postfix under stress closes after 10, which is seen before the connection is used
_MAILS = 100  # on one connection: relays behind one name get their share again
_GOODBYE = 1.0  # seconds for QUIT


@dataclass(frozen=True, slots=True, kw_only=True)
class Relay:
    """Where to connect, and as whom."""

    host: str
    port: int
    tls: Tls
    context: ssl.SSLContext
    username: str | None
    password: str | None = field(repr=False)
    domain: str  # what EHLO says
    timeout: float  # seconds for each command; the whole send has its own limit


@dataclass(slots=True, kw_only=True)
class _Idle:
    smtp: aiosmtplib.SMTP
    since: float  # time.monotonic
    mails: int


class Pool:
    """Make it inside the running event loop."""

    def __init__(self, relay: Relay, connections: int) -> None:
        self.size = connections
        self._relay = relay
        self._free = asyncio.Semaphore(connections)
        self._idle: list[_Idle] = []

    @contextlib.asynccontextmanager
    async def lease(self) -> AsyncGenerator[aiosmtplib.SMTP]:
        """A connection for one mail, kept afterwards unless the block raises anything at all.

        Raises SMTPException or OSError. Waits for a free place without a limit of its own.
        """
        async with self._free:
            taken = self._take()
            smtp = taken.smtp if taken else await self._connect()
            try:
                yield smtp
            except BaseException:
                drop(smtp)
                raise
            mails = (taken.mails if taken else 0) + 1
            if mails < _MAILS and smtp.is_connected:
                self._idle.append(_Idle(smtp=smtp, since=time.monotonic(), mails=mails))
            else:
                await _quit(smtp)

    def _take(self) -> _Idle | None:
        """The connection used last, if there is one that is still good."""
        while self._idle:
            idle = self._idle.pop()
            if idle.smtp.is_connected and time.monotonic() - idle.since < _IDLE:
                return idle
            drop(idle.smtp)
        return None

    async def _connect(self) -> aiosmtplib.SMTP:
        relay = self._relay
        smtp = aiosmtplib.SMTP(
            hostname=relay.host,
            port=relay.port,
            use_tls=relay.tls == "tls",
            start_tls=relay.tls
            == "starttls",  # never None, which goes on in the clear when TLS is not offered
            tls_context=relay.context,
            username=relay.username,
            password=relay.password,
            local_hostname=relay.domain,  # or it would look up this machine's name
            timeout=relay.timeout,
        )
        try:
            await smtp.connect()
            if smtp.is_ehlo_or_helo_needed:
                await smtp.ehlo()  # now, since what the relay offers decides how a mail is written
        except BaseException:
            drop(smtp)
            raise
        return smtp

    async def aclose(self) -> None:
        """Close what is idle; call it when nothing is leased."""
        idle, self._idle = self._idle, []
        await asyncio.gather(*(_quit(one.smtp) for one in idle))


def drop(smtp: aiosmtplib.SMTP) -> None:
    """Close without a word: whatever the other side still says belongs to nobody."""
    transport = cast("asyncio.WriteTransport | None", smtp.transport)  # uvloop's are none by their class
    if transport is not None:
        transport.abort()
    smtp.close()


async def _quit(smtp: aiosmtplib.SMTP) -> None:
    with contextlib.suppress(aiosmtplib.SMTPException, OSError):
        await smtp.quit(timeout=_GOODBYE)
    drop(smtp)
