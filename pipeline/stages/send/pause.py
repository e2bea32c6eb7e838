"""The gate of a channel: open, or closed by a channel fault until a probe comes through.

A bad credential fails every message alike, so the first one closes the gate. Nothing is given up and
no attempt is counted: deliveries wait here, one of them at a time goes as a probe, after waits that
double with jitter, and the first answer that is no channel fault lets all of them go on.
"""

import asyncio
from collections.abc import Callable

from pipeline.model.event import Channel
from pipeline.observe import Log

_FIRST_WAIT = 1.0  # seconds before the first probe
_LONGEST_WAIT = 60.0  # seconds: an operator who has mended the credential waits no longer than this
_LOOK = 0.2  # seconds between two looks at whether a waiting record is still ours

_log = Log(__name__)


class Abandoned(Exception):
    """The record is no longer ours, or the process leaves: it stays undone for its next owner."""


class Gate:
    """One per process. `chance` gives numbers from 0 to 1."""

    def __init__(
        self, channel: Channel, chance: Callable[[], float], first_wait: float = _FIRST_WAIT
    ) -> None:
        self._channel = channel
        self._chance = chance
        self._first_wait = first_wait
        self._open = asyncio.Event()
        self._open.set()
        self._faults = 0
        self._probing = False

    @property
    def closed(self) -> bool:
        """Whether new records should not even be read."""
        return not self._open.is_set()

    async def enter(self, mine: Callable[[], bool]) -> bool:
        """Wait until the gate is open, or it is this record's turn to probe (True).

        Whoever probes calls `leave` afterwards. Raises Abandoned when `mine` becomes false.
        """
        while self.closed:
            if not mine():
                raise Abandoned
            if not self._probing:
                self._probing = True
                try:
                    await self._back_off(mine)
                except BaseException:
                    self._probing = False
                    raise
                return True
            await _either(self._open, _LOOK)
        return False

    def leave(self) -> None:
        """The probe is over; while the gate is closed another may go."""
        self._probing = False

    def fault(self, reason: str, code: str, *, probe: bool) -> None:
        """A channel fault came back. Only a probe's makes the next wait longer."""
        if not self.closed:
            self._open.clear()
            self._faults = 1
            _log.error("channel.paused", channel=self._channel, reason=reason, code=code)
        elif probe:
            self._faults += 1
            _log.error(
                "channel.paused", channel=self._channel, reason=reason, code=code, probes=self._faults - 1
            )

    def passed(self) -> None:
        """An answer that is no channel fault came back."""
        if self.closed:
            self._open.set()
            self._faults = 0
            _log.info("channel.resumed", channel=self._channel)

    async def _back_off(self, mine: Callable[[], bool]) -> None:
        longest = min(_LONGEST_WAIT, self._first_wait * 2 ** min(self._faults - 1, 10))
        left = longest * (0.5 + self._chance() / 2)  # half of it is jitter
        while left > 0 and self.closed:
            await _either(self._open, min(_LOOK, left))
            left -= _LOOK
            if not mine():
                raise Abandoned


async def _either(event: asyncio.Event, seconds: float) -> None:
    """Wait for the event, at most so long."""
    try:
        async with asyncio.timeout(seconds):
            await event.wait()
    except TimeoutError:
        return
