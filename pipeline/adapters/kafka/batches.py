"""Writing whole batches by librdkafka: idempotent, acknowledged by all in-sync replicas, in their order.

What `produce.py` does on asyncio, at less than half of its processor time. It needs the compiled way into librdkafka,
which counts acknowledgements where they arrive: a callback in Python for each would cost as much as all else.
"""

import asyncio
from collections import Counter
from collections.abc import Sequence
from typing import Self

from confluent_kafka import KafkaError, KafkaException

from pipeline.adapters.kafka.bulk import BulkProducer
from pipeline.model.errors import DependencyDown, PayloadTooLarge
from pipeline.model.record import Writable, Written

_START = 30.0  # seconds
_STOP = 5.0  # seconds


class BatchProducer:
    """One idempotent producer. One `send_all` at a time."""

    def __init__(self, servers: str, *, client_id: str, deadline: float = 30.0) -> None:
        """`deadline`: seconds that one `send_all` may take. Connects in the background; see `open`."""
        self._bulk = BulkProducer(_config(servers, client_id), counted=True)
        self._servers = servers
        self._deadline = deadline
        # Of a call that ran out of time, and how many acknowledgements there are when all of it is written. The
        # client tries them for ever, so the next call waits for them, and writes none of them a second time.
        self._late: Sequence[Writable] = ()
        self._goal = 0

    @classmethod
    async def open(cls, servers: str, *, client_id: str) -> Self:
        """Connect. Raises DependencyDown."""
        made = cls(servers, client_id=client_id)
        try:
            await asyncio.to_thread(made.reach)
        except KafkaException as error:
            raise DependencyDown(f"Kafka at {servers} does not answer: {error}") from error
        return made

    def reach(self) -> None:
        """Wait for an answer of a broker. Raises KafkaException."""
        self._bulk.producer.list_topics(timeout=_START)

    async def send_all(self, records: Sequence[Writable]) -> None:
        """Return when every record is acknowledged.

        Raises DependencyDown when not all were in time; the same records again are not written a second time,
        but waited for. Raises PayloadTooLarge when one is above what its topic accepts. A KafkaException is
        fatal for this producer: end the process, its successor starts clean.
        """
        await asyncio.to_thread(self._send, records)

    async def aclose(self) -> None:
        """Flush for a moment."""
        await asyncio.to_thread(self._bulk.producer.flush, _STOP)

    def _send(self, records: Sequence[Writable]) -> None:
        self._drain()  # what is in the queue must not be taken for these
        if self._late and self._acknowledged() >= self._goal:
            records = _without(records, self._late)
        self._late = ()
        if not records:
            return
        self._goal = self._acknowledged() + len(records)
        self._late = records
        try:
            self._queue(records)
        except BufferError as error:
            raise DependencyDown(f"Kafka at {self._servers}: {error}") from error
        except KafkaException as error:
            raise self._translated(error) from error
        self._drain()
        self._late = ()
        if self._acknowledged() < self._goal:
            raise self._translated(KafkaException(KafkaError(self._bulk.counts[2])))

    def _acknowledged(self) -> int:
        return self._bulk.counts[0]

    def _drain(self) -> None:
        """Wait until of everything that was queued is known what became of it."""
        if left := self._bulk.producer.flush(self._deadline):
            raise DependencyDown(
                f"Kafka at {self._servers} has not acknowledged {left} records in {self._deadline} s"
            )

    def _queue(self, records: Sequence[Writable]) -> None:
        plain = Written()
        for record in records:
            if record.headers:
                # In its place behind the ones before: a user's records may be of both kinds.
                self._hand_over(plain)
                plain = Written()
                self._bulk.producer.produce(
                    record.topic, record.value, record.key, headers=list(record.headers)
                )
            else:
                plain.put(record.topic, record.value or b"", record.key, -1)
        self._hand_over(plain)

    def _hand_over(self, written: Written) -> None:
        for topic, packed in written.packed.items():
            self._bulk.queue(topic, packed)

    def _translated(self, error: KafkaException) -> Exception:
        found = error.args[0]
        if found.code() == KafkaError.MSG_SIZE_TOO_LARGE:
            return PayloadTooLarge(f"a record is larger than its topic accepts: {found}")
        if found.code() == KafkaError._FATAL:
            return error
        return DependencyDown(f"Kafka at {self._servers} does not acknowledge: {found}")


def _without(records: Sequence[Writable], written: Sequence[Writable]) -> Sequence[Writable]:
    done = Counter(written)
    left: list[Writable] = []
    for record in records:
        if done[record]:
            done[record] -= 1
        else:
            left.append(record)
    return left


def _config(servers: str, client_id: str) -> dict[str, str | int | bool]:
    return {
        "bootstrap.servers": servers,
        "client.id": client_id,
        "reconnect.backoff.max.ms": 500,  # 10 s by default, in which nothing goes out
        "enable.idempotence": True,
        "max.in.flight.requests.per.connection": 1,  # decision page 0009
        "message.timeout.ms": 0,  # a record that ended by time could leave a gap before the next of its user
        "partitioner": "murmur2_random",  # aiokafka's and Java's; librdkafka's own would part a user's records
        "compression.type": "lz4",
        "linger.ms": 2,  # a batch is flushed anyway
        "message.max.bytes": 3 * 1024 * 1024,  # above the topics' 2 MiB: the topics decide
    }
