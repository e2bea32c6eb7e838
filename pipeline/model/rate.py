"""How fast a provider may be asked: a bucket of tokens, one for each request. Pure: `now` comes in.

The bucket fills at the rate and holds a second's worth. A tenth of it is kept for urgent deliveries and half
of it for urgent and normal ones, at least one token each: so whatever bulk takes, urgent ones find as much as
a bucket of their own with the same rate and that reserve would give them.

It begins empty: a process that comes in place of another does not spend what that one has spent already.
"""

from collections.abc import Mapping

from pipeline.model.event import Lane

_BURST = 1.0  # seconds' worth that the bucket holds
_LEAST = 2.0  # tokens that it holds at least, so that one can be kept for urgent deliveries
_AHEAD = 0.5  # seconds' worth of records that may wait for tokens
_SLOWED = 0.5  # of the rate, after the provider has asked for less
_SLOWEST = 0.1
_PATIENCE = 1.0  # seconds: what it says meanwhile is about what was sent before
_RECOVERY = 60.0  # seconds until the whole rate is tried again


class Bucket:
    """Tokens for one provider and credential. Times are seconds of any clock that only goes forward."""

    def __init__(self, rate: float, now: float) -> None:
        """`rate`: tokens a second, above 0."""
        self._rate = rate
        self._speed = 1.0  # part of the rate that the provider bears
        self._slowed = now - _PATIENCE
        self._level = 0.0
        self._at = now
        self._kept: Mapping[Lane, float] = {}
        self._resize()

    @property
    def depth(self) -> float:
        """Tokens that it holds at most: in no t seconds are there more than `rate * t + depth`."""
        return max(_LEAST, self._rate * _BURST)

    @property
    def ahead(self) -> int:
        """How many records may wait for tokens; reading more would only hold them in memory."""
        return max(1, int(self._rate * self._speed * _AHEAD))

    @property
    def reserve(self) -> float:
        """Tokens that only urgent deliveries get."""
        return self._kept["normal"]

    def take(self, lane: Lane, now: float) -> bool:
        """One token, if this lane may have it."""
        self._fill(now)
        if self._level < self._kept[lane] + 1:
            return False
        self._level -= 1
        return True

    def wait(self, lane: Lane, now: float) -> float:
        """Seconds until this lane may have a token if nobody else takes one."""
        self._fill(now)
        return max(0.0, self._kept[lane] + 1 - self._level) / (self._rate * self._speed)

    def change(self, rate: float, now: float) -> None:
        """Another rate from now on, above 0: this process has another share of it."""
        if rate != self._rate:
            self._fill(now)
            self._rate = rate
            self._resize()

    def slow(self, now: float) -> None:
        """The provider asks for less: half as fast from now on, and slowly back."""
        self._fill(now)
        if now - self._slowed >= _PATIENCE:
            self._slowed = now
            self._speed = max(_SLOWEST, self._speed * _SLOWED)

    def _fill(self, now: float) -> None:
        passed = now - self._at
        if passed > 0:
            self._at = now
            self._level = min(self.depth, self._level + passed * self._rate * self._speed)
            if self._speed < 1:
                self._speed = min(1.0, self._speed + passed / _RECOVERY)

    def _resize(self) -> None:
        depth = self.depth
        self._kept = {"urgent": 0.0, "normal": max(1.0, depth / 10), "bulk": max(1.0, depth / 2)}
        self._level = min(self._level, depth)
