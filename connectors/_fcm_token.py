"""The access token of FCM: fetched once for the whole process, renewed before it ends.

google-auth blocks, so it runs in a thread; however many sends wait, there is one fetch at a time.
"""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import partial
from math import ceil
from pathlib import Path
from typing import Any

import requests
from google.auth.exceptions import GoogleAuthError, TransportError
from google.auth.transport.requests import Request
from google.oauth2 import service_account

SCOPE = "https://www.googleapis.com/auth/firebase.messaging"
_EARLY = timedelta(minutes=5)  # before the end: fetch the next one while this one still serves
_LAST = timedelta(seconds=30)  # before the end: too late to be still valid on arrival
_PAUSE = timedelta(seconds=10)  # between early fetches that fail


@dataclass(frozen=True, slots=True, kw_only=True)
class AccessToken:
    """A bearer token."""

    value: str
    fetched_at: datetime
    expires_at: datetime


class NoToken(Exception):
    """There is no access token. `lasting`: Google refuses the service account itself."""

    def __init__(self, reason: str, *, lasting: bool) -> None:
        super().__init__(reason)
        self.reason = reason
        self.lasting = lasting


class Tokens:
    """Hands out the current token. `fetch` blocks; it raises GoogleAuthError."""

    def __init__(self, *, fetch: Callable[[], AccessToken], clock: Callable[[], datetime]) -> None:
        self._fetch = fetch
        self._clock = clock
        self._token: AccessToken | None = None
        self._fetching: asyncio.Task[AccessToken | NoToken] | None = None
        self._failed_at: datetime | None = None

    async def current(self) -> AccessToken:
        """A token that is valid for the next seconds. Raises NoToken."""
        now = self._clock()
        token = self._token
        if token is not None and token.expires_at - now > _LAST:
            if token.expires_at - now < _EARLY and self._may_try(now):
                self._start()
            return token
        # Shielded: a send that gives up must not end the fetch for the others.
        fetched = await asyncio.shield(self._start())
        if isinstance(fetched, NoToken):
            raise NoToken(fetched.reason, lasting=fetched.lasting)
        return fetched

    def refused(self, token: AccessToken) -> None:
        """FCM does not take it: the next send fetches another, once however many were refused."""
        if token is self._token:
            self._token = None

    async def aclose(self) -> None:
        """Wait for no fetch any more; its thread ends with its own timeout."""
        if self._fetching is not None:
            self._fetching.cancel()
            await asyncio.wait([self._fetching])

    def _may_try(self, now: datetime) -> bool:
        return self._failed_at is None or now - self._failed_at >= _PAUSE

    def _start(self) -> asyncio.Task[AccessToken | NoToken]:
        if self._fetching is None:
            self._fetching = asyncio.create_task(self._renew())
        return self._fetching

    async def _renew(self) -> AccessToken | NoToken:
        try:
            self._token = await asyncio.to_thread(self._fetch)
        except GoogleAuthError as error:
            self._failed_at = self._clock()
            later = error.retryable or isinstance(error, TransportError)
            return NoToken(str(error.args[0] if error.args else error), lasting=not later)
        else:
            self._failed_at = None
            return self._token
        finally:
            self._fetching = None


def fetcher(
    account: dict[str, Any], *, ca_file: Path | None, seconds: float, clock: Callable[[], datetime]
) -> Callable[[], AccessToken]:
    """The blocking fetch for a service account. Raises GoogleAuthError or ValueError when it is none."""
    credentials = service_account.Credentials.from_service_account_info(account, scopes=[SCOPE])

    def fetch() -> AccessToken:
        now = clock()
        with requests.Session() as session:  # of its own: once an hour is no use for a kept connection
            session.trust_env = False
            session.verify = True if ca_file is None else str(ca_file)
            # google-auth's own timeout is 120 s.
            credentials.refresh(partial(Request(session), timeout=ceil(seconds)))
        end: datetime | None = credentials.expiry  # naive UTC; None when Google names no end
        expires_at = now if end is None else end.replace(tzinfo=UTC)
        return AccessToken(value=str(credentials.token), fetched_at=now, expires_at=expires_at)

    return fetch
