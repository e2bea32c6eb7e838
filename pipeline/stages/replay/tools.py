"""What a run needs from outside, and what it tells."""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from pipeline.model.catalogue import Catalogue
from pipeline.model.dead import Letter
from pipeline.model.event import Event
from pipeline.model.recall import Recalls
from pipeline.model.record import Outgoing
from pipeline.model.replay import Answers, Claim, Sketch, Standing, Status
from pipeline.ports import Clock, Codec, Profiles
from pipeline.stages.replay.edit import Change

Place = tuple[str, int]  # topic, partition
Progress = Mapping[Place, tuple[int, Mapping[str, int]]]


class Letters(Protocol):
    """The run's ranges."""

    def read(self, limit: int) -> Sequence[Letter]:
        """Up to `limit` more; none when all are read. Raises DependencyDown."""
        ...


class Writer(Protocol):
    """The run's way into the topics."""

    def progress(self) -> Progress:
        """By partition, the next offset to read and the letters before it by fate."""
        ...

    def write(self, records: Sequence[Outgoing], progress: Progress) -> None:
        """Both or neither. Raises DependencyDown."""
        ...


class Books(Protocol):
    """What PostgreSQL keeps of runs."""

    async def standing(self, asked: Sequence[Claim], run_id: str) -> Mapping[int, Standing]:
        """What is remarkable, by index."""
        ...

    async def claim(self, run_id: str, claims: Sequence[Claim]) -> frozenset[int]:
        """Take letters; the indices of those that are another's."""
        ...

    async def answers(self, sent: Sequence[tuple[str, int]]) -> Answers:
        """What became of these (delivery id, attempt)."""
        ...

    async def save(self, run_id: str, counts: Mapping[str, int]) -> Status:
        """Save the counts; gives the status."""
        ...


class Contents(Protocol):
    """Reads letters."""

    def sketch(self, letter: Letter) -> Sketch:
        """What it says. Raises Unreadable."""
        ...

    def event(self, sketch: Sketch) -> Event:
        """The event that it is about. Raises Unreadable."""
        ...

    def renumbered(self, value: bytes, sketch: Sketch, attempt: int) -> bytes:
        """A delivery's bytes with another number of attempt. Raises Unreadable."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Tools:
    """Everything that a run works with."""

    letters: Letters
    books: Books
    contents: Contents
    wire: Codec
    catalogue: Catalogue
    recalls: Callable[[], Awaitable[Recalls]]
    profiles: Profiles
    clock: Clock
    timer: Callable[[], float]  # seconds, only forward
    tell: Callable[["Told"], None]  # after each batch


@dataclass(frozen=True, slots=True, kw_only=True)
class Told:
    """How far a run is, or how it has ended."""

    status: Status
    why: str = ""
    read: int = 0  # letters, by this process
    seconds: float = 0.0
    counts: Mapping[str, int] = field(default_factory=dict[str, int])  # letters by fate, of the whole run
    samples: Mapping[str, Sequence[str]] = field(default_factory=dict[str, Sequence[str]])
    changes: Sequence[tuple[str, Sequence[Change]]] = ()
