"""What local providers tell later: receipts, posted to the address that the request named.

Only to this machine. The address is https, as a provider wants it, and signed as such; what listens here stands
behind a proxy that ends TLS, so the request itself goes by plain HTTP. What is not taken is posted again.
"""

import asyncio
from collections.abc import Mapping

import aiohttp
from yarl import URL

_TRIES, _PAUSE = 20, 0.5  # times, seconds between two
_TIMEOUT = aiohttp.ClientTimeout(total=10.0)


class Callbacks:
    """Those of one provider."""

    def __init__(self) -> None:
        self._tasks: set[asyncio.Task[None]] = set()

    def post(self, url: str, form: Mapping[str, str], headers: Mapping[str, str]) -> None:
        """Post a form soon, if the address is on this machine."""
        target = URL(url, encoded=True)
        if target.host == "127.0.0.1":
            task = asyncio.create_task(_post(target.with_scheme("http"), form, headers))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def aclose(self) -> None:
        """Post nothing any more."""
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def _post(url: URL, form: Mapping[str, str], headers: Mapping[str, str]) -> None:
    async with aiohttp.ClientSession(timeout=_TIMEOUT) as session:
        for _ in range(_TRIES):
            try:
                async with session.post(url, data=form, headers=headers, allow_redirects=False) as answer:
                    if answer.ok:
                        return
            except (aiohttp.ClientError, OSError, TimeoutError):
                pass
            await asyncio.sleep(_PAUSE)
