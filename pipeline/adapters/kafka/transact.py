"""Reads, decides elsewhere, writes: the router's consumer and producer in one Kafka transaction.

A commit is numbered steps; the fault tests kill the process between each two of them.

    1 begin        a transaction on the producer
    2 produce      every record of the batch
    3 offsets      of the batch, with the group's metadata of this moment, into the transaction
    4 commit       all of it becomes visible at once, or none

Errors are sorted once, by librdkafka's own flags: `txn_requires_abort` → abort, rewind to the
committed offsets, read again; everything else, a timeout too, ends the process, because its outcome is
unknown and only a new producer (which fences this one) can make it known.

The group is classic, with a static member and the range assignor: range gives one process the same
partition number of every lane, which deduplication needs and cooperative-sticky does not promise
(decision page 0001). Why one request is on its way at a time: decision page 0009.
"""

from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Protocol

from confluent_kafka import Consumer, KafkaError, KafkaException, Message, TopicPartition

from pipeline.adapters.kafka.bulk import BulkProducer
from pipeline.adapters.kafka.deadline import watchdog
from pipeline.model.errors import ConfigurationError, DependencyDown
from pipeline.model.moment import moment
from pipeline.model.record import Incoming, Records, Written
from pipeline.model.topics import WINDOW
from pipeline.observe import Log

_log = Log(__name__)


class State(Protocol):
    """What the process remembers of its partitions, rebuilt from the log."""

    def restore(self, partitions: Sequence[int]) -> None:
        """Forget everything, then read the state of these partition numbers back."""
        ...

    def next_offset(self, topic: str, partition: int) -> int:
        """The first offset without a decision; 0 when none is known."""
        ...


# Errors of a consumer that pass when the broker is back; after any other one it would stay alive and idle.
_PASSING = frozenset(
    {
        KafkaError._TRANSPORT,
        KafkaError._ALL_BROKERS_DOWN,
        KafkaError._RESOLVE,
        KafkaError._TIMED_OUT,
        KafkaError.LEADER_NOT_AVAILABLE,
        KafkaError.NOT_LEADER_FOR_PARTITION,
    }
)
TRANSACTION = 3.0  # seconds for one transaction call; p99 is 0.12 s
# Seconds for a whole transaction, after which the watchdog ends the process. After a broker's restart the first
# one hangs for as long as it may: at 12 s a commit came 16 to 19 s after the return, at 4 s within 5.
OVERRUN = TRANSACTION + 1.0
# Seconds after which the broker aborts. Not less than its own restart takes: one that aborts while it is still
# fenced finds no leader, skips the markers as of deleted partitions, and the transaction hangs for ever.
HELD = 12.0
SETTLED = HELD + 13.0  # seconds until it has: it looks every 10 s
START = 12.0  # seconds for a broker that starts to load its coordinators


class Fenced(DependencyDown):
    """This process can't go on with its transaction; a new one must take over."""


def _consumer_config(servers: str, group: str, instance: str) -> dict[str, str | int | bool]:
    return {
        "bootstrap.servers": servers,
        "reconnect.backoff.max.ms": 500,  # 10 s by default: a broker was back for 15 s before a commit
        "group.id": group,
        "group.instance.id": instance,  # kill -9 to the first commit: 0.2-0.9 s, against 5 s without
        "heartbeat.interval.ms": 500,  # how a rebalance is heard of: 3 s by default, each time
        "session.timeout.ms": 10_000,  # how long a dead host keeps its partitions
        "partition.assignment.strategy": "range",
        "enable.auto.commit": False,
        "auto.offset.reset": "error",  # a silent skip or a second week of sends: an operator decides
        "isolation.level": "read_committed",
        "fetch.queue.backoff.ms": 10,  # the default of 1 s stalls a fast reader
        # What was read ahead of the bulk lane stands before the next urgent event. 4 MB are 13,000 events, half
        # a second; the default of 64 MB is eight. A fetch may go beyond it by what it brings: 128 KB a
        # partition as they are compressed (the default is 1 MB, 40,000 events of one publisher at once).
        "queued.max.messages.kbytes": 4_096,
        "fetch.message.max.bytes": 131_072,
    }


def _producer_config(servers: str, transactional_id: str) -> dict[str, str | int | bool]:
    return {
        "bootstrap.servers": servers,
        "reconnect.backoff.max.ms": 500,  # 10 s by default: a broker was back for 15 s before a commit
        "transactional.id": transactional_id,  # fixed: a restart fences and aborts at once
        "max.in.flight.requests.per.connection": 1,  # with more, a refused record is committed as if it were there
        "transaction.timeout.ms": int(HELD * 1000),  # what a dead process holds back ends then
        "partitioner": "murmur2_random",  # aiokafka's and Java's; librdkafka's own would part a user's records
        "compression.type": "lz4",
        "linger.ms": 5,
        # Above the topics' 2 MiB: what they accept must not be refused here, or one record stops a partition.
        "message.max.bytes": 3 * 1024 * 1024,
        "queue.buffering.max.messages": 500_000,
        "retry.backoff.ms": 2,  # 124 ms at p99 with the default: the coordinator is still finishing the last one
        "retry.backoff.max.ms": 20,
    }


class Transactor:
    """One router process's place in its group. Not thread-safe; callbacks run inside `poll`."""

    def __init__(
        self, servers: str, *, group: str, instance: str, topics: Sequence[str], state: State
    ) -> None:
        self._topics = list(topics)
        self._state = state
        self._epoch = 0
        self._closing = False
        name = f"{group}-{instance}"
        self._bulk = BulkProducer(_producer_config(servers, name))
        self._producer = self._bulk.producer
        self._consumer = Consumer(_consumer_config(servers, group, name))

    def start(self) -> None:
        """Fence the predecessor, then join the group. Raises DependencyDown when Kafka is away."""
        with _guarded("init_transactions", 2 * START):
            self._producer.init_transactions(START)
        self._consumer.subscribe(
            self._topics, on_assign=self._assigned, on_revoke=self._revoked, on_lost=self._revoked
        )

    @property
    def epoch(self) -> int:
        """Grows with every assignment and revocation: what was read before is void."""
        return self._epoch

    def poll(self, limit: int, timeout: float) -> Records:
        """Up to `limit` records, waiting at most `timeout` seconds for the first.

        `consume(limit, timeout)` would wait the whole timeout unless `limit` records are there.
        """
        first = self._consumer.poll(timeout)
        if first is None:
            return _NOTHING
        epoch = self._epoch
        batch = [first, *self._consumer.consume(limit - 1, 0)] if limit > 1 else [first]
        if epoch != self._epoch:
            return _NOTHING  # a rebalance came between: the new assignment begins at the committed offsets
        return _records([message for message in batch if _readable(message)])

    def wait(self, seconds: float) -> None:
        """Stay in the group without reading, while something else is away."""
        assigned = self._consumer.assignment()
        self._consumer.pause(assigned)
        message = self._consumer.poll(seconds)
        assert message is None or message.error() is not None, "paused partitions give no records"
        still = [partition for partition in self._consumer.assignment() if partition in assigned]
        self._consumer.resume(still)

    def commit(self, written: Written, offsets: Sequence[tuple[str, int, int]]) -> Mapping[int, int] | None:
        """Write everything and move the group to `offsets` (topic, partition, next offset), or neither.

        Gives the offsets of the pages by partition when committed, None when aborted: the batch will be
        read again. Raises Fenced when the process must end.
        """
        pages: dict[int, int] = {}
        with _guarded("transaction", OVERRUN):
            try:
                self._producer.begin_transaction()
                self._produce(written, pages)
                self._send_offsets(offsets)
                self._producer.commit_transaction(TRANSACTION)
            except KafkaException as failure:
                self._abort(failure)
                return None
            self._producer.poll(0)
        return pages

    def close(self) -> None:
        """Leave in order. A static member stays assigned until its session ends, so a restart is quick."""
        self._closing = True
        self._consumer.close()

    def _produce(self, written: Written, pages: dict[int, int]) -> None:
        """Queue all records, a topic at a time.

        Only what has headers goes alone, because a batch can't carry them, and the pages, whose offsets
        are wanted: they are there when the commit returns.
        """
        for topic, packed in written.packed.items():
            self._bulk.queue(topic, packed)
        for letter in written.letters:
            partition = -1 if letter.partition is None else letter.partition
            self._producer.produce(
                letter.topic, letter.value, letter.key, partition, headers=list(letter.headers)
            )

        def stands(error: KafkaError | None, message: Message) -> None:
            if error is None:
                pages[message.partition() or 0] = message.offset() or 0

        for partition, page in written.pages.items():
            self._producer.produce(WINDOW, page, partition=partition, on_delivery=stands)
        self._producer.poll(0)

    def _send_offsets(self, offsets: Sequence[tuple[str, int, int]]) -> None:
        # The metadata of this moment: kept from before a rebalance, it would be refused.
        metadata = self._consumer.consumer_group_metadata()
        self._producer.send_offsets_to_transaction(
            [TopicPartition(topic, partition, offset) for topic, partition, offset in offsets],
            metadata,
            TRANSACTION,
        )

    def _abort(self, failure: KafkaException) -> None:
        error: KafkaError = failure.args[0]
        if not error.txn_requires_abort():
            raise Fenced(f"the transaction's outcome is unknown: {error.str()}") from failure
        _log.warning("transaction.aborted", error=error.str())
        # Without the flush, an abort straight after produce() was fatal in 6 of 1,300 cases.
        self._producer.flush(TRANSACTION)
        self._producer.abort_transaction(TRANSACTION)
        self._rewind()

    def _rewind(self) -> None:
        for partition in self._starts(self._consumer.assignment()):
            self._consumer.seek(partition)

    def _starts(self, partitions: Sequence[TopicPartition]) -> list[TopicPartition]:
        """Where to read on: at the committed offset, or behind what the state knows to be decided.

        They differ only when the group's offsets were lost or set back: then the state knows better.
        """
        starts: list[TopicPartition] = []
        for found in self._consumer.committed(list(partitions), TRANSACTION):
            if found.error is not None:
                raise DependencyDown(f"committed offset of {found.topic}: {found.error.str()}")
            start = max(found.offset, self._state.next_offset(found.topic, found.partition))
            if found.offset < 0 and start == 0:  # a new group: from the beginning, wherever that is by now
                start, _ = self._consumer.get_watermark_offsets(found, TRANSACTION)
            starts.append(TopicPartition(found.topic, found.partition, start))
        return starts

    def _assigned(self, _consumer: Consumer, partitions: list[TopicPartition]) -> None:
        self._epoch += 1
        if self._closing:  # a rebalance is told of to the end, when no question is answered any more
            return
        # Asking for committed offsets waits until no transaction of a predecessor is pending on the
        # group (KIP-447); what is restored after it holds all that was decided below them.
        try:
            self._consumer.committed(partitions, SETTLED)
            self._state.restore(sorted({partition.partition for partition in partitions}))
            self._consumer.assign(self._starts(partitions))
        except KafkaException as failure:  # `poll` would raise what is in it, which is no KafkaException
            raise DependencyDown(f"taking partitions over: {failure.args[0].str()}") from failure
        _log.info("partitions.assigned", partitions=sorted({p.partition for p in partitions}))

    def _revoked(self, _consumer: Consumer, partitions: list[TopicPartition]) -> None:
        self._epoch += 1
        _log.info("partitions.revoked", partitions=sorted({p.partition for p in partitions}))


@contextmanager
def _guarded(what: str, seconds: float) -> Generator[None]:
    """Run under the watchdog; translate librdkafka's errors into ours."""
    with watchdog(seconds, lambda: _log.error("stage.failed", error=f"{what} overran {seconds} s")):
        try:
            yield
        except KafkaException as failure:
            raise Fenced(f"{what}: {failure.args[0].str()}") from failure


def _readable(message: Message) -> bool:
    error = message.error()
    if error is None:
        return True
    if error.code() == KafkaError.FENCED_INSTANCE_ID:
        raise ConfigurationError("another process runs as this instance: give each its own EVERPOST_INSTANCE")
    if error.fatal() or error.code() not in _PASSING:
        raise Fenced(f"the consumer can't go on: {error.str()}")
    _log.warning("dependency.down", error=error.str())
    return False


def _records(messages: list[Any]) -> Records:
    # Typed as Any: the client's types allow None where a message that was read has none.
    return Records(
        topics=[message.topic() for message in messages],
        partitions=[message.partition() for message in messages],
        offsets=[message.offset() for message in messages],
        keys=[message.key() for message in messages],
        values=[message.value() for message in messages],
        whole=lambda at: _incoming(messages[at]),
    )


_NOTHING = Records.of([])


def _incoming(message: Message) -> Incoming:
    return Incoming(
        topic=message.topic() or "",
        partition=message.partition() or 0,
        offset=message.offset() or 0,
        key=message.key(),
        value=message.value(),
        headers=tuple((name, _bytes(value)) for name, value in message.headers() or ()),
        at=moment(message.timestamp()[1]),
    )


def _bytes(value: str | bytes | None) -> bytes:
    return value.encode() if isinstance(value, str) else value or b""
