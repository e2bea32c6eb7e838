"""Every error that everpost raises on purpose, one root.

    EverpostError
    ├── CallerError            the caller's fault: change the call, a repeat will not help
    │   ├── InvalidEvent       fields of an event that the door refuses, each with its fix
    │   ├── NotInTransaction   outbox.enqueue outside a transaction
    │   └── PayloadTooLarge    an event above the size that the topics accept
    ├── ConfigurationError     the operator's fault: a setting, a file, a port
    ├── Unreadable             bytes that cannot be decoded; they go to notification.dead
    └── DependencyDown         Kafka, Postgres or the registry is away: pause, then try again
        └── BrokerUnavailable  Client.publish was not acknowledged in time: publish the same event again

What a caller may expect is a value; these are raised when it is not.
"""

from collections.abc import Sequence
from dataclasses import dataclass


class EverpostError(Exception):
    """Root of the tree. `retriable` says whether the same call may work later."""

    retriable = False


class CallerError(EverpostError):
    """The call itself is wrong; the message says what to change."""


class ConfigurationError(EverpostError):
    """A setting, a file or the machine is wrong; the message says what to change."""


class Unreadable(EverpostError):
    """Bytes that no reader can decode: wrong magic byte, unknown schema id, damaged datum."""


class DependencyDown(EverpostError):
    """Something outside the process did not answer in time. Nothing was skipped."""

    retriable = True


class BrokerUnavailable(DependencyDown):
    """Kafka has not acknowledged an event in time. It may be there all the same: repeat it with its id."""


class NotInTransaction(CallerError):
    """`outbox.enqueue` needs the caller's open transaction, or the event could outlive a rollback."""


class PayloadTooLarge(CallerError):
    """The encoded event is larger than the topics accept."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Problem:
    """One field that is wrong."""

    field: str  # path, for example data.flight
    message: str  # what is wrong
    fix: str  # what to do next

    def __str__(self) -> str:
        return f"{self.field}: {self.message}; {self.fix}"


class InvalidEvent(CallerError):
    """The event was refused at the door. `problems` holds every field that is wrong, with its fix."""

    def __init__(self, problems: Sequence[Problem]) -> None:
        self.problems = tuple(problems)
        super().__init__("event refused: " + " | ".join(str(problem) for problem in self.problems))
