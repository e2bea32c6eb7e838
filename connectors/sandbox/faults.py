"""The fault script: which misfortune meets which request. No clock and no chance of its own."""

import hashlib
from collections import Counter
from collections.abc import Sequence
from typing import Literal

from pydantic import ConfigDict, Field, TypeAdapter, ValidationError
from pydantic.dataclasses import dataclass

Kind = Literal[
    "delay",  # the usual answer, `seconds` later
    "status",  # `status` instead of the usual answer, with `retry_after` and `body` when given
    "hang_up",  # read the request, then close without an answer
    "never",  # read the request, then say nothing
    "dead",  # the address is dead: the provider's own answer for that
    "reset",  # HTTP/2: RST_STREAM, REFUSED_STREAM unless `processed`; elsewhere as hang_up
    "goaway",  # HTTP/2: the usual answer, then a graceful GOAWAY; elsewhere a closed connection
]


class BadFaults(ValueError):
    """The JSON is no list of faults; the message names the field and what is wrong with it."""


@dataclass(frozen=True, slots=True, kw_only=True, config=ConfigDict(extra="forbid", strict=True))
class Fault:
    """One misfortune and whom it meets. A request meets the first fault of the script that fits."""

    kind: Kind
    provider: str | None = None  # None: every provider
    address: str | None = None  # exact, or a prefix when it ends with '*'; None: every address
    times: int | None = Field(default=None, ge=1)  # how often in all; None: always
    each: int | None = Field(default=None, ge=1)  # how often for one delivery id; None: always
    share: float = Field(
        default=1.0, ge=0, le=1
    )  # of the delivery ids, chosen by hash; dead: of the addresses
    after: float = Field(default=0.0, ge=0)  # seconds from activation
    until: float | None = Field(default=None, gt=0)  # seconds from activation; None: for ever
    seconds: float = Field(default=0.0, ge=0)  # waited before the answer, whatever the kind
    status: int = Field(default=503, ge=100, le=599)  # HTTP status, SMTP code, or the provider's own status
    reason: str = ""  # the provider's word for it, for example TooManyRequests; empty: its usual one
    body: str | None = None  # instead of the provider's own body
    retry_after: str | None = None  # header, in seconds or as an HTTP date
    processed: bool = False  # status, hang_up, never, reset: the message was taken all the same

    def fits(self, provider: str, address: str, delivery_id: str, age: float) -> bool:
        """Whether it may meet this request, `age` seconds after activation. Counts apart."""
        return (
            self.provider in (None, provider)
            and self._names(address)
            and self.after <= age < (float("inf") if self.until is None else self.until)
            and (self.share == 1 or _position(address if self.kind == "dead" else delivery_id) < self.share)
        )

    def _names(self, address: str) -> bool:
        if self.address is None:
            return True
        if self.address.endswith("*"):
            return address.startswith(self.address[:-1])
        return address == self.address


def _position(text: str) -> float:
    """A place in [0, 1) that depends on the text alone."""
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:6]) / 2**48


class Script:
    """The faults in force. `now` is seconds of any steady clock, always the same one."""

    def __init__(self, faults: Sequence[Fault] = (), *, now: float = 0.0) -> None:
        self._entries: list[_Entry] = []
        self.extend(faults, now)

    def extend(self, faults: Sequence[Fault], now: float) -> None:
        """Add faults behind those in force; their seconds count from `now`."""
        self._entries.extend(_Entry(fault, now) for fault in faults)

    def clear(self) -> None:
        """No faults any more."""
        self._entries.clear()

    def faults(self) -> tuple[Fault, ...]:
        """What is in force, in order."""
        return tuple(entry.fault for entry in self._entries)

    def meet(self, *, provider: str, address: str, delivery_id: str, now: float) -> Fault | None:
        """The fault that meets this request, counted as used; None for the usual answer."""
        for entry in self._entries:
            if entry.left(delivery_id) and entry.fault.fits(
                provider, address, delivery_id, now - entry.since
            ):
                entry.use(delivery_id)
                return entry.fault
        return None


class _Entry:
    """A fault in force, since when, and how often it was used."""

    __slots__ = ("fault", "since", "used", "used_for")

    def __init__(self, fault: Fault, since: float) -> None:
        self.fault = fault
        self.since = since
        self.used = 0
        self.used_for: Counter[str] = Counter()  # by delivery id, where `each` asks for it

    def left(self, delivery_id: str) -> bool:
        if self.fault.times is not None and self.used >= self.fault.times:
            return False
        return self.fault.each is None or self.used_for[delivery_id] < self.fault.each

    def use(self, delivery_id: str) -> None:
        self.used += 1
        if self.fault.each is not None:
            self.used_for[delivery_id] += 1


_FAULTS: TypeAdapter[list[Fault]] = TypeAdapter(list[Fault])


def from_json(text: str | bytes) -> list[Fault]:
    """The faults in a JSON list. Raises BadFaults."""
    try:
        return _FAULTS.validate_json(text)
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(map(str, first["loc"])) or "the whole"
        raise BadFaults(f"faults: {place}: {first['msg']}; known kinds and fields: see Fault") from error


def to_json(faults: Sequence[Fault]) -> str:
    """A JSON list that `from_json` reads."""
    return _FAULTS.dump_json(list(faults), exclude_defaults=True).decode()
