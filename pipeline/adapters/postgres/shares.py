"""A place among those who drain the outbox, and the shares of it that this one holds.

Each has a session of PostgreSQL with a lock for every share that it holds (decision 0003). The session is
the lease: the server ends it, and with it every lock, at once when the process dies, and after LEASE when it
has heard nothing for so long (stopped, hung, or its host is gone). And it is the fence: rows are claimed and
settled in this session alone, so whoever has lost it can neither claim nor settle.
"""

import asyncio
from collections.abc import Callable, Sequence
from collections.abc import Set as AbstractSet
from contextlib import suppress

import asyncpg
from asyncpg.pool import PoolConnectionProxy

from pipeline.adapters.postgres.errors import translated
from pipeline.adapters.postgres.pool import CONNECT
from pipeline.adapters.postgres.statements import load
from pipeline.model.errors import DependencyDown
from pipeline.model.shares import change
from pipeline.observe import Log

LEASE = 5.0  # seconds of silence until the server gives the shares of a session away
CLASS = 0x6F757462  # "outb" in ASCII: the first number of each of these locks; the second is the share
MEMBER = 1_000  # the second number of the lock that everybody shares
_LOOK = 0.5  # seconds between two looks at who else is there
_PATIENCE = 30.0  # seconds that Kafka may take for a batch: who can't reach it leaves the shares to who can
_CHANNEL = "everpost_outbox"  # the trigger in 0002_outbox.sql notifies it
_SQL = load("outbox")
_log = Log(__name__)


class Shares:
    """One place. Every method raises DependencyDown when the session is lost; `join` begins another one."""

    def __init__(self, pool: asyncpg.Pool, woken: Callable[[], None], lease: float) -> None:
        self._pool = pool
        self._woken = woken
        self._lease = lease
        self._connection: PoolConnectionProxy | None = None
        self._held: set[int] = set()
        self._lock = asyncio.Lock()  # a connection does one thing at a time
        self._staying: asyncio.Task[None] | None = None
        self._looked = 0.0  # when we looked who else is there
        self._owing: float | None = None  # since when there are rows that are claimed and not settled

    @property
    def held(self) -> AbstractSet[int]:
        """The shares that are ours."""
        return self._held

    async def join(self) -> None:
        """Be there, and hold a fair part; no row may be claimed and not settled."""
        now = asyncio.get_running_loop().time()
        self._owing = None
        with translated():
            if self._staying is None or self._connection is None or _lost(self._connection):
                await self.leave()
                await self._begin()
            elif now < self._looked + _LOOK:
                return
            await self._divide()
        self._looked = now

    async def fetch(self, statement: str, *arguments: object) -> Sequence[asyncpg.Record]:
        """Ask in the session."""
        async with self._lock:
            if self._connection is None or _lost(self._connection):
                raise DependencyDown("PostgreSQL: the session that holds shares of the outbox is lost")
            with translated():
                return await self._connection.fetch(statement, *arguments)

    def owe(self) -> None:
        """Rows are claimed, and Kafka is to take them now."""
        self._owing = asyncio.get_running_loop().time()

    async def leave(self) -> None:
        """End the session; the pool opens another one when it needs it."""
        async with self._lock:  # not in the midst of a question
            connection, self._connection = self._connection, None
            staying, self._staying = self._staying, None
            self._held = set()
            if staying is not None:
                staying.cancel()
            if connection is not None:
                # Ended, not released: a release talks to the server, and warns of listeners on a broken line.
                with suppress(asyncpg.InterfaceError):  # it broke, and the pool has it back already
                    connection.terminate()
        if staying is not None:
            await asyncio.wait([staying])

    async def _begin(self) -> None:
        connection = await self._pool.acquire(timeout=CONNECT)
        self._connection = connection
        await connection.add_listener(_CHANNEL, lambda *_: self._woken())
        await self.fetch(_SQL["join"], CLASS, MEMBER, str(int(self._lease * 1000)))
        self._staying = asyncio.create_task(self._stay())

    async def _divide(self) -> None:
        members = await self.fetch(_SQL["members"], CLASS, MEMBER)
        me = next((pid for pid, mine in members if mine), 0)
        leave, take = change(self._held, [pid for pid, _ in members], me)
        if leave:
            self._held -= set(leave)
            await self.fetch(_SQL["let_go"], CLASS, leave)
        taken = [share for (share,) in await self.fetch(_SQL["take"], CLASS, take)] if take else []
        self._held |= set(taken)
        if leave or taken:
            _log.info("outbox.shares", held=len(self._held), relays=len(members))

    async def _stay(self) -> None:
        """Let the server hear of us while Kafka takes its time; a stopped process does not come here."""
        loop = asyncio.get_running_loop()
        while True:
            await asyncio.sleep(self._lease / 5)
            if self._owing is not None and loop.time() > self._owing + _PATIENCE:
                continue
            try:
                await self.fetch("select 1")
            except DependencyDown:
                return  # whoever claims or settles next hears it too


def _lost(connection: PoolConnectionProxy) -> bool:
    try:
        return connection.is_closed()
    except asyncpg.InterfaceError:  # a pool takes a connection that broke back at once, and says so here
        return True
