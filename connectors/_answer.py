"""What one POST brings: an answer, or what is known of the fate of a request without one."""

from dataclasses import dataclass
from typing import Literal

from connectors.contract import Outcome, Transient, Uncertain

MAX_BODY = 65_536  # bytes of an answer that are looked at; a real one has some hundreds

Fate = Literal[
    "lost",  # written, and the answer is lost
    "unsent",  # not processed: nothing was written, or the server itself says so
    "untrusted",  # nothing was written: the server's certificate is not trusted
    "private",  # nothing was written: the host's name leads into a private network
]


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What the server said."""

    status: int
    body: str = ""  # empty when it broke off: the status has already spoken
    retry_after: str | None = None
    location: str = ""


class NoAnswer(Exception):
    """There is no answer; `fate` is what is known of the request, `code` the error's name."""

    def __init__(self, fate: Fate, code: str) -> None:
        super().__init__(f"{fate}: {code}")
        self.fate = fate
        self.code = code

    def outcome(self) -> Outcome:
        """Uncertain when the request was written, else Transient: it may safely be tried again."""
        if self.fate == "lost":
            return Uncertain(
                reason=f"the request was written and the answer is lost: {self.code}", code=self.code
            )
        return Transient(reason=f"not sent: {self.code}", code=self.code)
