"""The gate to a provider: open, or closed by a channel fault, its breaker or an operator.

A bad credential fails every message alike, so the first one closes the gate; a provider that is unwell
closes it by its breaker (`breaker.py`). Nothing is given up and no attempt is counted: deliveries go to
another provider of the channel or wait (`ways.py`), and one of them at a time goes as a probe, after waits
that double with jitter. After a fault the first answer that is none opens the gate; after the breaker it is
some good ones in a row.
"""

import time
from collections.abc import Callable

from pipeline.model.breaker import BAD, REFUSED, Breaker, Limits, Order, Standing, regained
from pipeline.model.event import Channel
from pipeline.model.outcome import Result
from pipeline.observe import Log

FIRST_WAIT = 1.0  # seconds before the first probe
_LONGEST_WAIT = 60.0  # seconds: an operator who has mended the credential waits no longer than this

_log = Log(__name__)


class Abandoned(Exception):
    """The record is no longer ours, or the process leaves: it stays undone for its next owner."""


class Gate:
    """One per process and provider, as is the credential. `chance` gives numbers from 0 to 1."""

    def __init__(
        self,
        channel: Channel,
        provider: str,
        chance: Callable[[], float],
        first_wait: float = FIRST_WAIT,
        limits: Limits | None = None,
    ) -> None:
        self._names = {"channel": channel, "provider": provider}
        self._chance = chance
        self._first_wait = first_wait
        self._limits = limits or Limits()
        self._faults = 0
        self._fault = ""  # the last one's reason, which names the fix
        self._mended = 0.0  # when it may be mended: the next probe of a channel at fault
        now = time.monotonic()
        self._breaker = Breaker(limits=self._limits, half=now, since=now - 1e9)
        self._good = 0  # answers since the last tally
        self._bad = 0
        self._probing = False
        self._well_since = now
        self._whole = True  # it is open and has its whole share
        self.closed = False  # deliveries wait, or go elsewhere
        self.era = 0  # grows when the breaker closes: older requests say nothing of the provider as it is now

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

    def share(self) -> float:
        """Of the deliveries meant for this provider, the part that it may have now: 0 to 1."""
        if self._whole:
            return 1.0
        if self.closed:
            return 0.0
        share = regained(time.monotonic() - self._well_since, self._limits)
        self._whole = share >= 1
        return share

    def wait(self) -> float:
        """Seconds until a probe may go, as far as it is known."""
        due = max(self._mended if self._faults else 0.0, self._breaker.until)
        return max(0.0, due - time.monotonic())

    def probe(self) -> bool:
        """Whether a probe may go now: then it is the one who asks, and calls `leave` afterwards."""
        if not self.closed or self._probing or self._breaker.order == "open" or self.wait() > 0:
            return False
        self._probing = True
        return True

    def leave(self) -> None:
        """The probe is over; while the gate is closed another may go."""
        self._probing = False

    def fault(self, reason: str, code: str, *, probe: bool) -> None:
        """A channel fault came back. Only a probe's makes the next wait longer."""
        self._fault = f"{reason} ({code})" if code else reason
        if self._faults and not probe:
            return
        self._faults += 1
        longest = min(_LONGEST_WAIT, self._first_wait * 2 ** min(self._faults - 1, 10))
        self._mended = time.monotonic() + longest * (0.5 + self._chance() / 2)  # half of it is jitter
        _log.error("channel.paused", **self._names, reason=reason, code=code, probes=self._faults - 1)
        self._turn()

    def passed(self) -> None:
        """An answer that is no channel fault came back."""
        if self._faults:
            self._faults = 0
            self._turn()
            _log.info("channel.resumed", **self._names)

    def answered(self, result: Result, *, probe: bool, era: int) -> bool:
        """A provider's answer, no channel fault, to a request that entered in this `era`.

        False: the delivery goes round again, its attempt not counted, because the breaker is open and
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
        log("breaker.turned", **self._names, state=now.state, order=now.order, trips=now.trips, **facts)

    def _turn(self) -> None:
        was, self.closed = self.closed, self._faults > 0 or self._breaker.shut
        if self.closed:
            self._whole = False
        elif was:
            self._well_since = time.monotonic()
