"""The gate of a channel: open, or closed by a channel fault, its breaker or an operator.

A bad credential fails every message alike, so the first one closes the gate; a provider that is unwell
closes it by its breaker (`breaker.py`). Nothing is given up and no attempt is counted: deliveries wait
here, and one of them at a time goes as a probe, after waits that double with jitter. After a fault the first
answer that is none lets all of them go on; after the breaker it is some good ones in a row.
"""

import asyncio
import time
from collections.abc import Callable

from pipeline.model.breaker import BAD, REFUSED, Breaker, Limits, Order, Standing
from pipeline.model.event import Channel
from pipeline.model.outcome import Result
from pipeline.observe import Log

_FIRST_WAIT = 1.0  # seconds before the first probe
_LONGEST_WAIT = 60.0  # seconds: an operator who has mended the credential waits no longer than this
_LOOK = 0.2  # seconds between two looks at whether a waiting record is still ours

_log = Log(__name__)


class Abandoned(Exception):
    """The record is no longer ours, or the process leaves: it stays undone for its next owner."""


class Gate:
    """One per process, as is the credential. `chance` gives numbers from 0 to 1."""

    def __init__(
        self,
        channel: Channel,
        chance: Callable[[], float],
        first_wait: float = _FIRST_WAIT,
        limits: Limits | None = None,
    ) -> None:
        self._channel = channel
        self._chance = chance
        self._first_wait = first_wait
        self._open = asyncio.Event()
        self._open.set()
        self._faults = 0
        self._fault = ""  # the last one's reason, which names the fix
        now = time.monotonic()
        self._breaker = Breaker(limits=limits or Limits(), half=now, since=now - 1e9)
        self._good = 0  # answers since the last tally
        self._bad = 0
        self._probing = False
        self.era = 0  # grows when the breaker closes: older requests say nothing of the provider as it is now

    @property
    def closed(self) -> bool:
        """Whether new records should not even be read."""
        return not self._open.is_set()

    @property
    def _held(self) -> bool:
        """Whether not even a probe may go."""
        return self._breaker.order == "open"

    @property
    def standing(self) -> tuple[Standing, Order | None, str]:
        """Where it stands, by whose order if by any, and why in words."""
        if self._faults:
            return "paused", self._breaker.order, self._fault
        breaker = self._breaker
        if breaker.order is not None:
            return ("open" if breaker.order == "open" else "closed"), breaker.order, "an operator's order"
        why = "" if breaker.state == "closed" else f"{breaker.trips} times in a row unwell"
        return breaker.state, None, why

    async def enter(self, mine: Callable[[], bool]) -> bool:
        """Wait until the gate is open, or it is this record's turn to probe (True).

        Whoever probes calls `leave` afterwards. Raises Abandoned when `mine` becomes false.
        """
        while self.closed:
            if not mine():
                raise Abandoned
            if not self._probing and not self._held:
                self._probing = True
                try:
                    await self._back_off(mine)
                except BaseException:
                    self._probing = False
                    raise
                if not self._held:
                    return True
                self._probing = False
            await _either(self._open, _LOOK)
        return False

    def leave(self) -> None:
        """The probe is over; while the gate is closed another may go."""
        self._probing = False

    def fault(self, reason: str, code: str, *, probe: bool) -> None:
        """A channel fault came back. Only a probe's makes the next wait longer."""
        self._fault = f"{reason} ({code})" if code else reason
        if not self._faults:
            self._faults = 1
            _log.error("channel.paused", channel=self._channel, reason=reason, code=code)
        elif probe:
            self._faults += 1
            _log.error(
                "channel.paused", channel=self._channel, reason=reason, code=code, probes=self._faults - 1
            )
        self._turn()

    def passed(self) -> None:
        """An answer that is no channel fault came back."""
        if self._faults:
            self._faults = 0
            self._turn()
            _log.info("channel.resumed", channel=self._channel)

    def answered(self, result: Result, *, probe: bool, era: int) -> bool:
        """A provider's answer, no channel fault, to a request that entered in this `era`.

        False: the delivery waits here instead, its attempt not counted, because the breaker is open and
        the provider has not taken it.
        """
        self.passed()
        good = result not in BAD
        if probe:
            self._set(self._breaker.probed(good, time.monotonic(), self._chance()))
        elif era == self.era:
            if good:
                self._good += 1
            else:
                self._bad += 1
        return not (self._breaker.shut and result in REFUSED)

    def tally(self) -> None:
        """Let the breaker know what came since the last time; once a batch."""
        good, self._good, bad, self._bad = self._good, 0, self._bad, 0
        if good or bad:
            self._set(self._breaker.counted(good, bad, time.monotonic(), self._chance()))

    def ordered(self, order: Order | None) -> None:
        """An operator's word, or that there is none."""
        self._set(self._breaker.ordered(order, time.monotonic()))

    def _set(self, breaker: Breaker) -> None:
        was, self._breaker = self._breaker, breaker
        if was.shut and not breaker.shut:
            self.era += 1
            self._good = self._bad = 0
        if (was.state, was.order) != (breaker.state, breaker.order):
            self._turn()
            self._tell(was)

    def _tell(self, was: Breaker) -> None:
        now, log = self._breaker, _log.warning if self._breaker.shut else _log.info
        facts = {"good": sum(was.good), "bad": sum(was.bad)} if now.state == "open" else {}
        log(
            "breaker.turned",
            channel=self._channel,
            state=now.state,
            order=now.order,
            trips=now.trips,
            **facts,
        )

    def _turn(self) -> None:
        if self._faults or self._breaker.shut:
            self._open.clear()
        else:
            self._open.set()

    async def _back_off(self, mine: Callable[[], bool]) -> None:
        left = max(self._after_fault(), self._breaker.until - time.monotonic())
        while left > 0 and self.closed:
            await _either(self._open, min(_LOOK, left))
            left -= _LOOK
            if not mine():
                raise Abandoned

    def _after_fault(self) -> float:
        """Seconds until the next probe of a channel at fault."""
        if not self._faults:
            return 0.0
        longest = min(_LONGEST_WAIT, self._first_wait * 2 ** min(self._faults - 1, 10))
        return longest * (0.5 + self._chance() / 2)  # half of it is jitter


async def _either(event: asyncio.Event, seconds: float) -> None:
    """Wait for the event, at most so long."""
    try:
        async with asyncio.timeout(seconds):
            await event.wait()
    except TimeoutError:
        return
