"""The load of a run: events through every door at a steady rate, and the book of what was accepted.

One event in ten is published twice, maybe by the other door; one in thirty is for some seconds later.
Some transactions with outbox rows are rolled back: nobody may ever hear of what was in them.
"""

import asyncio
import random
import threading
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from datetime import timedelta
from types import TracebackType
from typing import Self

import asyncpg

from pipeline.adapters.postgres.pool import close, connect, transaction
from pipeline.model.catalogue import Catalogue
from pipeline.model.errors import DependencyDown
from pipeline.model.event import LANES, Event
from pipeline.sdk import Client, new_event, outbox
from pipeline.sdk.door import Encoder
from pipeline.wiring import clock
from tests.faults.load import TENANT, channels
from tests.faults.whole.books import Accepted

USERS = 200
_TICK = 0.1  # seconds
_AGAIN = 0.3  # seconds before a call that failed is made again, as a service would
_REPEATS, _LATER, _ROLLED_BACK = 0.1, 0.03, 0.02
_RECENT = 2_000  # a repeat is one of the last so many
_PENDING = 60  # ticks that may wait for a door at once; then the load waits too
_FINISH = 180.0  # seconds for what is on its way when the load ends
_WEIGHTS = (1, 8, 1)  # of the lanes: urgent, normal, bulk
_FLIGHT = {
    "flight": "UA 1018",
    "carrier": "United",
    "origin": "EWR",
    "destination": "IAH",
    "scheduled": "05:25",
}


def name(user: int) -> str:
    """The user with this number."""
    return f"u-{user}"


class _RolledBack(Exception):
    """The service has changed its mind."""


class Load:
    """A thread with a loop of its own that publishes while the block runs. Its book is read from other threads."""

    def __init__(
        self, servers: str, dsn: str, catalogue: Catalogue, encoder: Encoder, *, rate: float, seed: int
    ) -> None:
        self.book: dict[str, Accepted] = {}  # by event id: every call that returned
        self._servers = servers
        self._dsn = dsn
        self._burst = rate * _TICK
        self._chance = random.Random(seed)
        self._made: list[tuple[Event, int]] = []
        self._catalogue = catalogue
        self._encoder = encoder
        self._error: BaseException | None = None
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="load")

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop.set()
        self._thread.join()

    def finish(self) -> None:
        """Publish no more, and wait until every door has answered. Raises what ended the load too early."""
        self._stop.set()
        self._thread.join()
        if self._error is not None:
            raise self._error

    def _run(self) -> None:
        try:
            asyncio.run(self._publish())
        except BaseException as error:  # noqa: BLE001 - handed to the thread that asks for it
            self._error = error

    async def _publish(self) -> None:
        connections = await connect(self._dsn)
        doors = asyncio.Semaphore(_PENDING)
        client = Client(self._servers, catalogue=self._catalogue, encoder=self._encoder)
        try:
            async with client, asyncio.timeout(None) as limit, asyncio.TaskGroup() as tasks:
                due = 0.0
                while not self._stop.is_set():
                    due += self._burst
                    events = [self._next() for _ in range(int(due))]
                    due -= len(events)
                    await doors.acquire()
                    task = tasks.create_task(self._tick(events, client, connections))
                    task.add_done_callback(lambda _: doors.release())
                    await asyncio.sleep(_TICK)
                limit.reschedule(asyncio.get_running_loop().time() + _FINISH)
        finally:
            await close(connections)

    async def _tick(
        self, events: Sequence[tuple[Event, int]], client: Client, connections: asyncpg.Pool
    ) -> None:
        half = len(events) // 2
        direct, queued = events[:half], events[half:]
        doomed = self._chance.random() < _ROLLED_BACK
        if direct:
            await _persist(lambda: client.publish_many([event for event, _ in direct]))
            self._note(direct)
        if queued:
            if doomed:
                await _persist(lambda: self._change_of_mind(connections))
            await _persist(lambda: self._enqueue([event for event, _ in queued], connections))
            self._note(queued)

    async def _enqueue(self, events: Sequence[Event], connections: asyncpg.Pool) -> None:
        async with transaction(connections) as connection:
            for event in events:
                await outbox.enqueue(connection, event, catalogue=self._catalogue, encoder=self._encoder)

    async def _change_of_mind(self, connections: asyncpg.Pool) -> None:
        with suppress(_RolledBack):
            async with transaction(connections) as connection:
                event = self._event(f"never-{self._chance.getrandbits(64):x}", 0)
                await outbox.enqueue(connection, event, catalogue=self._catalogue, encoder=self._encoder)
                raise _RolledBack

    def _note(self, events: Sequence[tuple[Event, int]]) -> None:
        for event, user in events:
            wanted = frozenset[str](channels(user))
            self.book[event.event_id] = Accepted(event_id=event.event_id, channels=wanted)

    def _next(self) -> tuple[Event, int]:
        if self._made and self._chance.random() < _REPEATS:
            return self._chance.choice(self._made[-_RECENT:])
        user = self._chance.randrange(USERS)
        self._made.append((self._event(f"e-{len(self._made)}", user), user))
        return self._made[-1]

    def _event(self, event_id: str, user: int) -> Event:
        later = timedelta(seconds=self._chance.uniform(3, 15))
        (lane,) = self._chance.choices(LANES, _WEIGHTS)
        return new_event(
            "flight.cancelled",
            tenant=TENANT,
            user_id=name(user),
            event_id=event_id,
            data=_FLIGHT,
            priority=lane,
            deliver_at=clock() + later if self._chance.random() < _LATER else None,
        )


async def _persist(call: Callable[[], Awaitable[object]]) -> None:
    """Call until it returns: the ids make that harmless."""
    while True:
        try:
            await call()
        except DependencyDown:
            await asyncio.sleep(_AGAIN)
        else:
            return
