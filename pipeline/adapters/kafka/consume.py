"""Reading on asyncio: explicit contiguous offsets, committed records only, static membership.

aiokafka's defaults lose or invent records here, so each that is overridden has its reason beside it.
`commit()` without offsets is never called: it commits what was fetched, not what was done.
"""

import asyncio
import time
from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Self

from aiokafka import AIOKafkaConsumer, ConsumerRebalanceListener, TopicPartition
from aiokafka.errors import CommitFailedError, IllegalStateError, KafkaError

from pipeline.adapters.kafka.tracker import Done, Partition, Tracker, ahead_of
from pipeline.model.errors import ConfigurationError, DependencyDown
from pipeline.model.moment import moment
from pipeline.model.record import Incoming
from pipeline.observe import Log

_SESSION = 30_000  # ms; heartbeats are a task of this loop, and a render or a signature may hold it
_REBALANCE = 60_000  # ms; aiokafka's default is the session's length, and a longer drain is evicted
# Seconds without a turn of this loop, after which the group may have given our partitions away: the session's
# length, less what may have passed since the last heartbeat.
_ASLEEP = (_SESSION - _SESSION // 10) / 1000 - 2
_TICK = 1.0  # seconds
_START = 30.0  # seconds
_COMMIT = 10.0  # seconds
_PUT_OUT = (5, 60.0)  # times within seconds: two processes that take one membership from each other
_DRAIN = 15.0  # seconds for what is in flight at a revoke: above one send's limit, below _REBALANCE


class KafkaConsumer:
    """One member of a group. Use it from one event loop; `fetch` from one task at a time."""

    def __init__(self, client: AIOKafkaConsumer, group: str, instance: str) -> None:
        self._client = client
        self._group = group
        self._instance = instance
        self._tracker = Tracker()
        self._committing = asyncio.Lock()
        self._settled = asyncio.Event()  # a record was done or given back
        self._leaving = False  # partitions are being taken away: start nothing new
        self._turned = time.monotonic()  # when this loop was last seen to turn
        self._slept = False  # too long: nothing is ours until the group has said so
        self._ticking: asyncio.TimerHandle | None = None
        self._unlearned: set[Partition] = (
            set()
        )  # ours, and what earlier owners did beyond the offset is not known
        self._put_out: deque[float] = deque(maxlen=_PUT_OUT[0])  # when the group had forgotten this member
        self._log = Log(__name__)

    @classmethod
    async def open(cls, servers: str, topics: Sequence[str], *, group: str, instance: str) -> Self:
        """Join `group` as its static member `instance`.

        A process that comes back with the same instance within the session keeps its partitions
        without a rebalance. Raises DependencyDown when Kafka does not answer.
        """
        client = AIOKafkaConsumer(
            bootstrap_servers=servers,
            client_id=f"{group}-{instance}",
            group_id=group,
            group_instance_id=f"{group}-{instance}",
            isolation_level="read_committed",  # the default delivered 11.7 % records of aborted transactions
            enable_auto_commit=False,  # the default commits by the clock, whatever was done
            auto_offset_reset="earliest",  # `latest` skips silently when a group's offsets have expired
            session_timeout_ms=_SESSION,
            heartbeat_interval_ms=_SESSION // 10,
            rebalance_timeout_ms=_REBALANCE,
            fetch_max_wait_ms=200,  # an idle partition answers this often; also what a pause may lag
            request_timeout_ms=_REBALANCE + 5_000,  # a join may wait as long as a rebalance
        )
        consumer = cls(client, group, instance)
        try:
            async with asyncio.timeout(_START):
                await client.start()
        except (KafkaError, OSError, TimeoutError) as error:
            await client.stop()
            raise DependencyDown(f"Kafka at {servers} does not answer: {error!r}") from error
        client.subscribe(topics, listener=_Listener(consumer))
        consumer._tick()
        return consumer

    async def fetch(self, rooms: Mapping[str, int], wait: float) -> list[Incoming]:
        """Records of these topics in the order of `rooms`; waits up to `wait` seconds for the first.

        The batch has at most `rooms[topic]` records once that topic is read. An empty `rooms` reads
        nothing and keeps the membership alive, as a pause must: a member that does not ask for 300 s
        is put out.
        Raises DependencyDown, and ConfigurationError when another process has the same instance. Any
        other KafkaError is fatal for this member (a right is missing, say): end the process.
        """
        self._check_twin()
        if self._leaving or self._has_slept():
            await asyncio.sleep(wait)
            return []
        try:
            return await self._fetch(rooms, wait)
        except KafkaError as error:
            if "UnknownError" in str(error):  # so aiokafka calls FENCED_INSTANCE_ID, which it does not know
                self._was_put_out()
                raise DependencyDown(
                    f"the group of {self._group} refuses instance {self._instance!r}"
                ) from error
            if error.retriable:
                raise DependencyDown(f"Kafka does not answer {self._group}: {error!r}") from error
            raise

    def owns(self, record: Incoming) -> bool:
        """Whether the record is still ours to work on; False as soon as its partition is being taken away.

        And False for whoever wakes after a session's length (SIGSTOP, a machine that stood still): somebody else has
        had the partition meanwhile, and a heartbeat would tell too late.
        """
        place = (record.topic, record.partition)
        return not self._leaving and not self._has_slept() and self._tracker.owns(place, record.assignment)

    def share(self) -> float:
        """The part of its topics' partitions that this member has, 0 to 1."""
        known = (self._client.partitions_for_topic(topic) for topic in self._client.subscription())
        count = sum(len(partitions) for partitions in known if partitions)
        return len(self._tracker.assigned()) / count if count else 0.0

    def abandon(self, records: Iterable[Incoming]) -> None:
        """Give records back undone. Their partition stands still until its next owner reads them again."""
        for record in records:
            self._tracker.abandon((record.topic, record.partition), record.offset, record.assignment)
        self._settled.set()

    async def commit(self, records: Iterable[Incoming]) -> None:
        """Count these records as done, and commit what is contiguous.

        Call it only when what came of them is acknowledged. Raises DependencyDown; the records count
        all the same, and the next commit brings them.
        """
        for record in records:
            self._tracker.done((record.topic, record.partition), record.offset, record.assignment)
        self._settled.set()
        async with self._committing:
            await self._commit()

    def pause(self, partitions: Iterable[Partition]) -> None:
        """Read nothing from these partitions until `resume`. A new assignment is not paused."""
        self._client.pause(*self._assigned(partitions))

    def resume(self, partitions: Iterable[Partition]) -> None:
        """Read from these partitions again."""
        self._client.resume(*self._assigned(partitions))

    async def aclose(self) -> None:
        """Commit what is contiguous and stop. The membership stays until the session ends."""
        self._leaving = True
        if self._ticking is not None:
            self._ticking.cancel()
        try:
            async with self._committing:
                await self._commit()
        except DependencyDown as error:
            self._log.warning("dependency.down", group=self._group, error=str(error))
        finally:
            async with asyncio.timeout(_COMMIT):
                await self._client.stop()

    async def revoked(self, partitions: Iterable[TopicPartition]) -> None:
        """Partitions are taken away: let what is in flight end, commit it, forget the rest."""
        self._leaving = True
        # Below 0: the group has forgotten this member. Only the coordinator of the client knows.
        generation = getattr(self._client._coordinator, "generation", 0)  # pyright: ignore[reportPrivateUsage]
        if self._tracker.assigned() and generation < 0:
            self._was_put_out()
        try:
            async with asyncio.timeout(_DRAIN):
                while self._tracker.busy():
                    self._settled.clear()
                    await self._settled.wait()
        except TimeoutError:
            self._log.warning("partitions.revoked", group=self._group, unfinished=self._tracker.busy())
        try:
            async with self._committing:
                await self._commit()
        finally:
            self._tracker.revoke((partition.topic, partition.partition) for partition in partitions)
            self._leaving = False

    def assigned(self, partitions: Iterable[TopicPartition]) -> None:
        """These partitions are ours: start over with them."""
        found = [(partition.topic, partition.partition) for partition in partitions]
        self._tracker.assign(found)
        self._slept, self._turned = False, time.monotonic()
        self._unlearned = set(found)
        self._log.info("partitions.assigned", group=self._group, partitions=len(found))

    def _tick(self) -> None:
        """A caller may be busy elsewhere for longer than a session, and the loop turns all the same."""
        self._has_slept()
        self._ticking = asyncio.get_running_loop().call_later(_TICK, self._tick)

    def _has_slept(self) -> bool:
        now = time.monotonic()
        if now - self._turned > _ASLEEP and not self._slept and self._tracker.assigned():
            self._slept = True
            self._log.warning("partitions.revoked", group=self._group, slept=round(now - self._turned))
            # If the group still knows us, partitions that we have given up would stand still for ever.
            self._client._coordinator.request_rejoin()  # pyright: ignore[reportPrivateUsage, reportOptionalMemberAccess, reportAttributeAccessIssue]
        self._turned = now
        return self._slept

    def _was_put_out(self) -> None:
        self._put_out.append(asyncio.get_running_loop().time())

    def _check_twin(self) -> None:
        """Aiokafka names its instance when it joins and never again, so a twin puts it out unnoticed."""
        most, seconds = _PUT_OUT
        if len(self._put_out) == most and self._put_out[-1] - self._put_out[0] < seconds:
            raise ConfigurationError(
                f"{self._group} was put out of its group {most} times within a minute: another process "
                f"runs as instance {self._instance!r}; give each process its own EVERPOST_INSTANCE"
            )

    async def _fetch(self, rooms: Mapping[str, int], wait: float) -> list[Incoming]:
        mine = self._tracker.assigned()
        wanted = [
            ([TopicPartition(*one) for one in mine if one[0] == topic], room) for topic, room in rooms.items()
        ]
        wanted = [(partitions, room) for partitions, room in wanted if partitions and room > 0]
        found: list[Incoming] = []
        for partitions, room in wanted:
            if room > len(found):
                found += await self._getmany(partitions, 0, room - len(found))
        if not found:
            anywhere = [partition for partitions, _ in wanted for partition in partitions]
            least = min((room for _, room in wanted), default=1)
            found = await self._getmany(anywhere or [_NOWHERE], wait, least)
        return found

    async def _getmany(self, partitions: list[TopicPartition], wait: float, room: int) -> list[Incoming]:
        """Aiokafka waits without limit while a rebalance goes on; here the limit holds then, too."""
        try:
            async with asyncio.timeout(wait + 1):
                batches = await self._client.getmany(
                    *partitions, timeout_ms=int(wait * 1000), max_records=room
                )
        except TimeoutError:
            return []
        if self._unlearned and batches:
            await self._learn()
        return [record for records in batches.values() for raw in records if (record := self._note(raw))]

    async def _learn(self) -> None:
        """Ask what earlier owners have done beyond their offsets.

        Not while the partitions are assigned: a record that is read meanwhile would be passed over. When the
        broker does not answer, what they did is done again.
        """
        asked, self._unlearned = self._unlearned, set()
        # `committed()` gives no metadata.
        coordinator: Any = self._client._coordinator  # pyright: ignore[reportPrivateUsage]
        try:
            async with asyncio.timeout(_COMMIT):
                found = await coordinator.fetch_committed_offsets([TopicPartition(*one) for one in asked])
        except (KafkaError, TimeoutError) as error:
            self._log.warning("dependency.down", group=self._group, error=repr(error))
            return
        for place, (offset, metadata) in found.items():
            partition = (place.topic, place.partition)
            if partition not in self._unlearned:  # else it was taken away and came back meanwhile
                self._tracker.learn(partition, Done(offset, ahead_of(metadata)))

    def _note(self, raw: Any) -> Incoming | None:
        assignment = self._tracker.fetched((raw.topic, raw.partition), raw.offset)
        if assignment is None:
            return None
        return Incoming(
            topic=raw.topic,
            partition=raw.partition,
            offset=raw.offset,
            key=raw.key,
            value=raw.value,
            headers=tuple(raw.headers),
            at=moment(raw.timestamp),
            assignment=assignment,
        )

    async def _commit(self) -> None:
        offsets = self._tracker.committable()
        if not offsets:
            return
        try:
            async with asyncio.timeout(_COMMIT):
                await self._client.commit(
                    {TopicPartition(*one): (done.next, done.metadata()) for one, done in offsets.items()}
                )
        except (CommitFailedError, IllegalStateError):
            return  # the group has moved on without us: the next owner does these records again
        except (KafkaError, TimeoutError) as error:
            raise DependencyDown(f"Kafka does not take offsets of {self._group}: {error!r}") from error
        self._tracker.committed(offsets)

    def _assigned(self, partitions: Iterable[Partition]) -> list[TopicPartition]:
        mine = set(self._tracker.assigned())
        return [TopicPartition(*one) for one in partitions if one in mine]


# getmany() without partitions means all of them; asking for one that nobody has means none.
_NOWHERE = TopicPartition("", 0)


class _Listener(ConsumerRebalanceListener):
    """Aiokafka awaits what these return, inside the rebalance; its own signature says None."""

    def __init__(self, consumer: KafkaConsumer) -> None:
        self._consumer = consumer

    async def on_partitions_revoked(  # pyright: ignore[reportIncompatibleMethodOverride]
        self, revoked: Iterable[TopicPartition]
    ) -> None:
        await self._consumer.revoked(revoked)

    async def on_partitions_assigned(  # pyright: ignore[reportIncompatibleMethodOverride]
        self, assigned: Iterable[TopicPartition]
    ) -> None:
        self._consumer.assigned(assigned)
