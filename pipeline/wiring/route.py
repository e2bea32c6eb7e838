"""The router, put together."""

import asyncio
import gc
import signal
import threading
from collections.abc import Callable, Collection, Generator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial

from pipeline.adapters.kafka.admin import topic_id
from pipeline.adapters.kafka.ends import end_offsets
from pipeline.adapters.kafka.grow import require_alike
from pipeline.adapters.kafka.readback import read_back
from pipeline.adapters.kafka.transact import Transactor
from pipeline.adapters.postgres.changes import ProfileChanges
from pipeline.adapters.postgres.pool import close, connect
from pipeline.adapters.postgres.profiles import PostgresProfiles
from pipeline.adapters.postgres.recalls import Fresh, PostgresRecalls
from pipeline.adapters.rocks.store import RocksStore
from pipeline.model.profile import Profile
from pipeline.model.recall import Recalls
from pipeline.model.topics import DECISIONS, HOLDS, WINDOW
from pipeline.observe import Meter
from pipeline.ports import UserKey
from pipeline.settings import Settings
from pipeline.stages.route import step as route
from pipeline.stages.route.people import People
from pipeline.stages.route.records import GROUP
from pipeline.stages.route.state import RouterState
from pipeline.wiring import Stage, catalogue, clock, wire


def run(_stage: Stage, settings: Settings) -> None:
    """Route until SIGTERM or SIGINT."""
    stop = threading.Event()
    for signum in (signal.SIGTERM, signal.SIGINT):
        signal.signal(signum, lambda _number, _frame: stop.set())
    servers, codec = settings.bootstrap_servers, wire(settings)
    require_alike(servers, [*route.TOPICS, HOLDS, DECISIONS, WINDOW])
    with _facts(settings) as (profiles, recalls), _store(settings) as store:
        state = RouterState(store, partial(read_back, servers, WINDOW), partial(_ends, servers), clock)
        transactor = Transactor(
            servers, group=GROUP, instance=settings.instance, topics=route.TOPICS, state=state
        )
        router = route.Router(
            transactions=transactor,
            state=state,
            wire=codec,
            people=People(profiles),
            catalogue=catalogue(settings).types,
            recalls=recalls,
            clock=clock,
            meter=Meter(),
            batch=settings.batch,
        )
        transactor.start()
        # A batch makes 100,000 objects that live as long as it does; the collector's default of 700 walks them
        # hundreds of times and finds no cycle: a quarter of the router's processor time.
        gc.freeze()
        gc.set_threshold(200_000)
        try:
            route.run(router, stop)
        finally:
            transactor.close()


def _ends(servers: str) -> Mapping[int, int]:
    """Where the window's partitions end."""
    return {partition: end for (_, partition), end in end_offsets(servers, [WINDOW]).items()}


@contextmanager
def _store(settings: Settings) -> Generator[RocksStore]:
    """The router's copy of the window, apart for every log and process."""
    log = topic_id(settings.bootstrap_servers, WINDOW)
    store = RocksStore(settings.home / "router" / settings.instance / log)
    try:
        yield store
    finally:
        store.close()


@dataclass(frozen=True, slots=True, kw_only=True)
class _Profiles:
    """Profiles for a stage without an event loop of its own."""

    runner: asyncio.Runner
    profiles: PostgresProfiles
    changes: ProfileChanges

    def changed(self) -> Collection[UserKey] | None:
        """Who has changed."""
        return self.runner.run(self.changes.since_last())

    def fetch(self, users: Sequence[UserKey]) -> Mapping[UserKey, Profile]:
        """The profiles of these."""
        return self.runner.run(self.profiles.fetch(users))


@contextmanager
def _facts(settings: Settings) -> Generator[tuple[_Profiles, Callable[[], Recalls]]]:
    """Profiles and recalls for a stage without an event loop of its own: one loop, entered for each batch."""
    with asyncio.Runner() as runner:
        pool = runner.run(connect(settings.postgres_dsn.get_secret_value(), size=2))
        orders = Fresh(PostgresRecalls(pool))

        def recalls() -> Recalls:
            return runner.run(orders.refresh())

        try:
            yield (
                _Profiles(runner=runner, profiles=PostgresProfiles(pool), changes=ProfileChanges(pool)),
                recalls,
            )
        finally:
            runner.run(close(pool))
