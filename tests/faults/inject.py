"""The faults, one function a kind: each makes sure that its fault has happened, then waits until all is well.

All is well when every partition has decided an event that was published after the fault.
"""

import asyncio
import contextlib
import shutil
import signal
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import asyncpg
from confluent_kafka import ConsumerGroupTopicPartitions, KafkaError, KafkaException, TopicPartition

from pipeline.model.event import LANES
from pipeline.model.topics import RELEASED, events
from tests.faults.books import Decided
from tests.faults.schedule import ROUTERS, Fault, Kind
from tests.faults.stand import GROUP, PARTITIONS, Stand, put_back
from tests.faults.watch import Watch
from tests.faults.workers import Worker
from tests.support.services import until

_READ = (*(events(lane) for lane in LANES), RELEASED)  # what the group has offsets of
SESSION = 10.0  # seconds: the router's session timeout
_FENCED = frozenset({75, 78})  # exit codes of a router that another has taken the place of
_VISITOR = "2"  # the instance that joins and leaves
# A static member keeps its partitions when it leaves, until its session ends; a dynamic one gives them up
# at once, so that every leave is a rebalance.
_DYNAMIC: Mapping[str, object] = {"group.instance.id": None}
# The shortest that librdkafka takes: not below the session's.
_HASTY: Mapping[str, object] = {"max.poll.interval.ms": int(SESSION * 1000)}
_LOOK = 0.1  # seconds between two questions to the broker or the database
_PATIENCE = 60.0  # seconds for all to be well again
_WORK = 2.0  # seconds of work that a zombie's open transaction hides
_AFTER_COPY = 300  # decisions that the copy of a disk does not know


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """One fault and what it cost."""

    fault: Fault
    began: float  # seconds of the monotonic clock
    seconds: float  # to a commit in every partition of what was published after the fault
    after_return: float | None = None  # the same, from the moment when what was away answered again
    decided: int = 0  # events, from the fault to that moment


@dataclass(frozen=True, slots=True, kw_only=True)
class Bench:
    """What an injection works with."""

    stand: Stand
    watch: Watch[Decided]

    def served(self, fault: Fault, began: float, *, back: float | None = None) -> Result:
        """Wait until all is well."""
        at = self.watch.serving(max(began, back or 0.0), _PATIENCE)
        return Result(
            fault=fault,
            began=began,
            seconds=at - began,
            after_return=None if back is None else at - back,
        )


def inject(bench: Bench, fault: Fault) -> Result:
    """Inject a fault. AssertionError when it did not happen, or all is not well in time."""
    return _INJECTIONS[fault.kind](bench, fault)


def _kill(bench: Bench, fault: Fault) -> Result:
    routers = bench.stand.routers
    router = routers.get(fault.router)
    if fault.step == "restored":  # reached only when a process takes partitions: by the next one
        routers.order_next(fault.router, "kill", fault.step)
        router.signal(signal.SIGKILL)
        routers.killed(router)
        router = routers.get(fault.router)
    else:
        # A commit is answered after 3 to 15 ms.
        router.order("kill", fault.step, fault.batch, fault.fraction * 0.01)
    return bench.served(fault, routers.killed(router))


def _kill_all(bench: Bench, fault: Fault) -> Result:
    every = [bench.stand.routers.get(instance) for instance in ROUTERS]
    for router in every:
        router.signal(signal.SIGKILL)
    return bench.served(fault, max(bench.stand.routers.killed(router) for router in every))


def _stop(bench: Bench, fault: Fault) -> tuple[Worker, float]:
    """A router that has stopped itself at the step, and since when."""
    router = bench.stand.routers.get(fault.router)
    router.order("stop", fault.step, fault.batch)
    until(router.stopped, 60)
    return router, time.monotonic()


def _replaced(bench: Bench, fault: Fault) -> Result:
    zombie, began = _stop(bench, fault)
    bench.stand.routers.replace(fault.router)
    result = bench.served(fault, began)
    zombie.signal(signal.SIGCONT)
    code = zombie.ended()
    bench.stand.routers.ends[code] += 1
    assert code in _FENCED, f"a replaced router was woken and ended with {code}"
    return result


def _zombie(bench: Bench, fault: Fault) -> Result:
    """Stopped past its session, up to 3 s: it sleeps on while the others take over."""
    zombie, began = _stop(bench, fault)
    result = bench.served(fault, began) if fault.step != "offsets" else None
    asleep = SESSION + 1 + 2 * fault.fraction
    time.sleep(max(0.0, began + asleep - time.monotonic()))
    zombie.signal(signal.SIGCONT)
    again = bench.served(fault, time.monotonic())
    # Its offsets are in a transaction that nobody has ended: they hold the others back until it is woken.
    return result or Result(fault=fault, began=began, seconds=again.began + again.seconds - began)


def _inherited(bench: Bench, fault: Fault) -> Result:
    """A zombie as before, and the machine that took over is lost while the zombie's transaction stands open.

    What the second router has committed lies behind that transaction, where a reader of committed records
    does not get to: the third one must wait for it, or it would take repeats for news.
    """
    zombie, began = _stop(bench, fault)
    until(lambda: bench.stand.members() == 1, SESSION + 10, _LOOK)
    time.sleep(_WORK)
    other = next(one for one in ROUTERS if one != fault.router)
    bench.stand.routers.down(other, signal.SIGKILL)
    put_back(bench.stand.routers.home(other), None)
    bench.stand.routers.up(other)
    result = bench.served(fault, began)
    zombie.signal(signal.SIGCONT)
    bench.served(fault, time.monotonic())
    return result


def _overrun(bench: Bench, fault: Fault) -> Result:
    """Stalled while its heartbeats go on, until its client gives up its place.

    In a transaction it goes on before its session ends, and finds its place gone. Before one it goes on
    after its session, which ends that much later, and another router has taken over.
    """
    routers = bench.stand.routers
    routers.down(fault.router)
    routers.up(fault.router, _HASTY)
    bench.watch.serving(time.monotonic(), _PATIENCE)
    taken_over = fault.step == "gathered"
    stall = 2 * SESSION + 4 if taken_over else SESSION + 1 + fault.fraction
    router = routers.get(fault.router)
    router.order("stall", fault.step, fault.batch, stall)
    until(router.stalled, 20, 0.01)
    began = time.monotonic()
    if taken_over:
        until(lambda: bench.stand.members() == 1, 2 * SESSION + 4, _LOOK)
    result = bench.served(fault, began)
    time.sleep(max(0.0, began + stall + 1 - time.monotonic()))
    routers.down(fault.router)
    routers.up(fault.router)
    bench.served(fault, time.monotonic())
    return result


def _joins(bench: Bench, fault: Fault) -> Result:
    bench.stand.routers.up(_VISITOR, _DYNAMIC)
    bench.stand.routers.get(_VISITOR)
    until(lambda: bench.stand.members() != len(ROUTERS), 30, _LOOK)
    began = time.monotonic()
    until(lambda: bench.stand.members() == len(ROUTERS) + 1, 30, _LOOK)
    return bench.served(fault, began)


def _leaves(bench: Bench, fault: Fault) -> Result:
    began = bench.stand.routers.down(_VISITOR)
    until(lambda: bench.stand.members() == len(ROUTERS), 30, _LOOK)
    return bench.served(fault, began)


def _broker(bench: Bench, fault: Fault) -> Result:
    number = signal.SIGKILL if fault.kind == "broker killed" else signal.SIGTERM
    began = time.monotonic()
    assert bench.stand.supervisor.kill("kafka", number), "the broker did not run"
    until(lambda: not bench.stand.answers(), 40, _LOOK)
    until(bench.stand.answers, 60, _LOOK)
    return bench.served(fault, began, back=time.monotonic())


def _postgres(bench: Bench, fault: Fault) -> Result:
    began = time.monotonic()
    while time.monotonic() < began + 1 + 3 * fault.fraction:  # its supervisor starts it again and again
        bench.stand.supervisor.kill("postgres", signal.SIGINT)
        time.sleep(0.05)
    until(lambda: asyncio.run(_connects(bench.stand.dsn)), 30, _LOOK)
    return bench.served(fault, began, back=time.monotonic())


async def _connects(dsn: str) -> bool:
    try:
        connection = await asyncpg.connect(dsn, timeout=5)
    except (OSError, asyncpg.PostgresError):
        return False
    await connection.close(timeout=5)
    return True


def _offsets(bench: Bench, fault: Fault) -> Result:
    began = time.monotonic()
    for instance in ROUTERS:
        bench.stand.routers.down(instance)
    try:
        until(lambda: _changed(bench.stand, fault), SESSION + 20, _LOOK)
    finally:
        for instance in ROUTERS:
            bench.stand.routers.up(instance)
    return bench.served(fault, began, back=time.monotonic())


def _changed(stand: Stand, fault: Fault) -> bool:
    admin = stand.admin()
    try:
        if fault.kind == "offsets lost":
            admin.delete_consumer_groups([GROUP], request_timeout=5)[GROUP].result(6)
            return True
        places = [TopicPartition(topic, number) for topic in _READ for number in range(PARTITIONS)]
        asked = [ConsumerGroupTopicPartitions(GROUP, places)]
        known = admin.list_consumer_group_offsets(asked, request_timeout=5)[GROUP].result(6)
        back = [
            TopicPartition(place.topic, place.partition, int(place.offset * fault.fraction))
            for place in known.topic_partitions
            if place.offset > 0
        ]
        wanted = [ConsumerGroupTopicPartitions(GROUP, back)]
        done = admin.alter_consumer_group_offsets(wanted, request_timeout=5)[GROUP].result(6)
    except KafkaException as refused:
        error: KafkaError = refused.args[0]
        # Not empty: a static member's session lasts. Not found: deleted, and the answer was lost.
        assert error.retriable() or error.code() in {
            KafkaError.NON_EMPTY_GROUP,
            KafkaError.GROUP_ID_NOT_FOUND,
        }
        return error.code() == KafkaError.GROUP_ID_NOT_FOUND
    return all(place.error is None for place in done.topic_partitions)


def _disk(bench: Bench, fault: Fault) -> Result:
    routers = bench.stand.routers
    disk, kept = routers.home(fault.router), routers.home(f"{fault.router}-kept")
    if fault.kind == "disk back":
        routers.down(fault.router, signal.SIGKILL)
        shutil.copytree(disk, kept)
        routers.up(fault.router)
        bench.watch.serving(time.monotonic(), _PATIENCE)
        assert bench.watch.reach(len(bench.watch.seen) + _AFTER_COPY, _PATIENCE), "nothing is decided"
    began = routers.down(fault.router, signal.SIGKILL)
    put_back(disk, kept if fault.kind == "disk back" else None)
    with contextlib.suppress(FileNotFoundError):
        shutil.rmtree(kept)
    routers.up(fault.router)
    return bench.served(fault, began)


_INJECTIONS: Mapping[Kind, Callable[[Bench, Fault], Result]] = {
    "kill": _kill,
    "kill all": _kill_all,
    "replaced": _replaced,
    "zombie": _zombie,
    "inherited": _inherited,
    "overrun": _overrun,
    "joins": _joins,
    "leaves": _leaves,
    "broker killed": _broker,
    "broker stopped": _broker,
    "postgres stopped": _postgres,
    "offsets back": _offsets,
    "offsets lost": _offsets,
    "disk lost": _disk,
    "disk back": _disk,
}
