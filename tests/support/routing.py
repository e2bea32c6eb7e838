"""A router without its broker: a store in memory, profiles from a function, the window as a list."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime

from pipeline.adapters.wire.codec import Wire
from pipeline.model.catalogue import Catalogue
from pipeline.model.profile import Profile
from pipeline.model.recall import Recalls
from pipeline.observe import Meter
from pipeline.ports import UserKey
from pipeline.stages.route.people import People
from pipeline.stages.route.state import RouterState
from pipeline.stages.route.step import Router, Transactions
from tests.support.make import CATALOGUE

Fetch = Callable[[Sequence[UserKey]], Mapping[UserKey, Profile]]


class MemoryStore:
    """The router's store, gone with the process."""

    def __init__(self) -> None:
        self.rows: dict[tuple[int, bytes], bytes] = {}

    def get(self, partition: int, key: bytes) -> bytes | None:
        """The value, if there is one."""
        return self.rows.get((partition, key))

    def write(self, partition: int, rows: Iterable[tuple[bytes, bytes]]) -> None:
        """All rows."""
        self.rows.update({(partition, key): value for key, value in rows})

    def clear(self, partition: int) -> None:
        """Forget the partition."""
        self.rows = {place: value for place, value in self.rows.items() if place[0] != partition}

    def sweep(self, stale: Callable[[bytes, bytes], bool]) -> bool:
        """Remove the stale ones of all rows."""
        self.rows = {place: value for place, value in self.rows.items() if not stale(place[1], value)}
        return True


class Asked:
    """Profiles as a function gives them, asked anew for every batch."""

    def __init__(self, fetch: Fetch) -> None:
        self._fetch = fetch

    def changed(self) -> None:
        """Anybody may have changed."""

    def fetch(self, users: Sequence[UserKey]) -> Mapping[UserKey, Profile]:
        """As they are now."""
        return self._fetch(users)


def state(
    clock: Callable[[], datetime], pages: Sequence[bytes] = (), store: MemoryStore | None = None
) -> RouterState:
    """The state of partition 0, restored from these pages of the window behind what the store has."""

    def read_back(starts: Mapping[int, int | datetime]) -> Iterable[tuple[int, int, bytes]]:
        begin = starts[0]
        first = begin if isinstance(begin, int) else 0
        return ((0, first + n, page) for n, page in enumerate(pages[first:]))

    made = RouterState(store or MemoryStore(), read_back, lambda: {0: len(pages)}, clock)
    made.restore([0])
    return made


def router(
    clock: Callable[[], datetime],
    fetch: Fetch,
    wire: Wire,
    *,
    transactions: Transactions | None = None,
    known: RouterState | None = None,
    catalogue: Catalogue = CATALOGUE,
    recalls: Callable[[], Recalls] = Recalls,
    batch: int = 10,
) -> Router:
    """A router that knows nothing yet but `known`."""
    return Router(
        transactions=transactions,  # pyright: ignore[reportArgumentType] - not asked by `decide_batch`
        state=known or state(clock),
        wire=wire,
        people=People(Asked(fetch)),
        catalogue=catalogue,
        recalls=recalls,
        clock=clock,
        meter=Meter(),
        batch=batch,
    )
