"""How fast a run may go, and when it stops by itself. Pure."""

import math
from typing import Literal

from pipeline.model.replay import Answers, Pace

_LEAST = 0.1  # of the rate, at the beginning of a ramp
_FEW = 20  # answers: fewer are no share
_BEHIND = 0.5  # seconds: who is later than this does not catch up, or the provider would see a burst
_SLICE = (
    0.1  # seconds' worth of letters in one batch: fine enough for 2 %, coarse enough for few transactions
)
BATCH = 5_000  # letters at most
DEFAULT_STOP = 5.0  # percent, when a canary is sent and nothing else is said

Word = Literal["go", "wait", "stop"]


def due(pace: Pace, elapsed: float) -> float:
    """How many letters may have been sent `elapsed` seconds after the start."""
    if pace.rate is None:
        return math.inf
    growing = min(elapsed, pace.ramp)
    grown = _LEAST * growing + (1 - _LEAST) * growing**2 / (2 * pace.ramp) if pace.ramp else 0.0
    return pace.rate * (grown + max(0.0, elapsed - pace.ramp))


def batch(pace: Pace) -> int:
    """How many letters to read at once."""
    return BATCH if pace.rate is None else max(1, min(BATCH, round(pace.rate * _SLICE)))


class Pacer:
    """Keeps the schedule of one run. Times are seconds of any clock that only goes forward."""

    def __init__(self, pace: Pace, now: float) -> None:
        self._pace = pace
        self._start = now
        self._sent = 0

    def sent(self, count: int) -> None:
        """So many more are out."""
        self._sent += count

    def wait(self, now: float) -> float:
        """Seconds until the letters that are out were due; then the next may go."""
        if self._pace.rate is None:
            return 0.0
        spare = self._spare(now)
        if spare > self._pace.rate * _BEHIND:
            self._start += spare / self._pace.rate
        return max(0.0, -spare / (self._pace.rate * self._speed(now)))

    def _spare(self, now: float) -> float:
        return due(self._pace, now - self._start) - self._sent

    def _speed(self, now: float) -> float:
        """The share of the rate at this moment."""
        if not self._pace.ramp:
            return 1.0
        return min(1.0, _LEAST + (1 - _LEAST) * (now - self._start) / self._pace.ramp)


def canary(pace: Pace, answers: Answers, waited: float) -> tuple[Word, str]:
    """Whether the rest may follow the canary, and why not."""
    if answers.answered < answers.sent and waited < pace.patience:
        return "wait", ""
    if answers.answered < answers.sent:
        return "stop", (
            f"only {answers.answered} of {answers.sent} canaries were answered in {pace.patience:g} s: "
            "see whether the senders run"
        )
    return _judged(pace.stop_at if pace.stop_at is not None else DEFAULT_STOP, answers, 1)


def failing(pace: Pace, answers: Answers) -> tuple[Word, str]:
    """Whether the run may go on."""
    return ("go", "") if pace.stop_at is None else _judged(pace.stop_at, answers, _FEW)


def _judged(limit: float, answers: Answers, least: int) -> tuple[Word, str]:
    if answers.answered < least:
        return "go", ""
    share = 100 * answers.failed / answers.answered
    if share <= limit:
        return "go", ""
    return (
        "stop",
        f"{share:.1f} % of the last {answers.answered} answers are failures, at most {limit:g} % may be",
    )
