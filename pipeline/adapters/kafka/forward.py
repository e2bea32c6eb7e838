"""Writes what is made of a frozen part of a topic, together with how far it has come, or neither.

One transaction a batch: the records, and for each partition read the next offset with the counts so far as
its metadata. So after `kill -9` the run goes on exactly behind what was written, and its report is right
to the letter. The transactional id is the run's: whoever resumes it fences a process that still works on it.
"""

from collections.abc import Mapping, Sequence
from typing import Self

import orjson
from confluent_kafka import Consumer, KafkaException, Producer, TopicPartition

from pipeline.adapters.kafka.deadline import watchdog
from pipeline.adapters.kafka.ranges import Place, consumer
from pipeline.model.errors import DependencyDown
from pipeline.model.record import Outgoing
from pipeline.model.replay import Range, Run
from pipeline.observe import Log

_TRANSACTION = 15.0  # seconds for one call
_OVERRUN = 30.0  # seconds for a whole transaction, after which the watchdog ends the process
_log = Log(__name__)

Progress = Mapping[Place, tuple[int, Mapping[str, int]]]
"""By partition: the next offset to read, and how many letters before it came to which fate."""


class Forwarder:
    """One run's way to write. Not thread-safe."""

    def __init__(self, producer: Producer, reader: Consumer, ranges: Sequence[Range]) -> None:
        self._producer = producer
        self._reader = reader
        self._ranges = ranges

    @classmethod
    def open(cls, servers: str, run: Run) -> Self:
        """Fence whoever works on the run, and take it over. Raises DependencyDown."""
        group = f"everpost.replay.{run.run_id}"
        producer = Producer(
            {
                "bootstrap.servers": servers,
                "log_level": 0,  # what matters comes back as an error
                "transactional.id": group,
                "max.in.flight.requests.per.connection": 1,  # else a record may be lost: decision 0009
                "transaction.timeout.ms": int(_OVERRUN * 1000),
                "partitioner": "murmur2_random",  # as every producer: a user's records meet in one partition
                "compression.type": "lz4",
                "linger.ms": 5,
                "batch.num.messages": 10_000,
                "message.max.bytes": 3 * 1024 * 1024,  # above the topics' 2 MiB
                "queue.buffering.max.messages": 500_000,
                "retry.backoff.ms": 2,  # the coordinator is still finishing the last transaction
                "retry.backoff.max.ms": 20,
            }
        )
        try:
            with watchdog(_OVERRUN, _overrun):
                producer.init_transactions(_TRANSACTION)
        except KafkaException as failure:
            raise DependencyDown(f"Kafka does not answer: {failure.args[0].str()}") from failure
        return cls(producer, consumer(servers, group), run.ranges)

    def progress(self) -> Progress:
        """How far the run has come; empty when it has not begun. Raises DependencyDown."""
        try:
            found = self._reader.committed(
                [TopicPartition(r.topic, r.partition) for r in self._ranges], _TRANSACTION
            )
        except KafkaException as failure:
            raise DependencyDown(f"Kafka does not answer: {failure.args[0].str()}") from failure
        return {
            (at.topic, at.partition): (at.offset, orjson.loads(at.metadata or "{}"))
            for at in found
            if at.error is None and at.offset >= 0
        }

    def write(self, records: Sequence[Outgoing], progress: Progress) -> None:
        """Both or neither. Raises DependencyDown when the run must be resumed by a new process."""
        try:
            with watchdog(_OVERRUN, _overrun):
                self._producer.begin_transaction()
                produce = self._producer.produce
                for one in records:
                    partition = -1 if one.partition is None else one.partition
                    produce(one.topic, one.value, one.key, partition, headers=list(one.headers))
                self._producer.poll(0)
                self._producer.send_offsets_to_transaction(
                    _positions(progress), self._reader.consumer_group_metadata(), _TRANSACTION
                )
                self._producer.commit_transaction(_TRANSACTION)
        except KafkaException as failure:
            raise DependencyDown(
                f"the transaction's outcome is unknown: {failure.args[0].str()}"
            ) from failure

    def close(self) -> None:
        """Let go of the connections."""
        self._reader.close()


def _positions(progress: Progress) -> list[TopicPartition]:
    return [
        TopicPartition(topic, partition, offset, orjson.dumps(counts).decode())
        for (topic, partition), (offset, counts) in progress.items()
    ]


def _overrun() -> None:
    _log.error("stage.failed", error=f"a replay's transaction overran {_OVERRUN} s")
