"""Writes what the router is to read again, outside of a run's transactions.

The ledger accounts for events and releases by their offsets, and a transaction's marker takes one in each
partition: it would be an event that nobody ever decides. So these records are acknowledged first, and then
comes the transaction with everything else and the run's position. Who dies between the two writes them again,
which the router's window makes harmless.
"""

from collections.abc import Sequence

from confluent_kafka import KafkaError, KafkaException, Message, Producer

from pipeline.adapters.kafka.forward import Forwarder, Progress
from pipeline.model.errors import DependencyDown
from pipeline.model.record import Outgoing
from pipeline.model.window import PLACES

_ACKNOWLEDGED = 30.0  # seconds for a batch


class Rewriter:
    """A run's way to write, also to the topics that the router reads. Not thread-safe."""

    def __init__(self, servers: str, forwarder: Forwarder) -> None:
        self._servers = servers
        self._forwarder = forwarder
        self._made: Producer | None = None

    def progress(self) -> Progress:
        """How far the run has come. Raises DependencyDown."""
        return self._forwarder.progress()

    def write(self, records: Sequence[Outgoing], progress: Progress) -> None:
        """Those for the router, then the others with the position. Raises DependencyDown as `Forwarder.write`."""
        again = [one for one in records if one.topic in PLACES]
        if again:
            self._append(again)
            records = [one for one in records if one.topic not in PLACES]
        self._forwarder.write(records, progress)

    def _append(self, records: Sequence[Outgoing]) -> None:
        failed: list[KafkaError] = []

        def answered(error: KafkaError | None, _message: Message) -> None:
            if error is not None:
                failed.append(error)

        producer = self._made = self._made or _producer(self._servers)
        try:
            for one in records:
                partition = -1 if one.partition is None else one.partition
                producer.produce(
                    one.topic, one.value, one.key, partition, answered, headers=list(one.headers)
                )
        except KafkaException as failure:
            raise DependencyDown(f"Kafka takes no record: {failure.args[0].str()}") from failure
        if left := producer.flush(_ACKNOWLEDGED):
            raise DependencyDown(f"Kafka has not acknowledged {left} records in {_ACKNOWLEDGED} s")
        if failed:
            raise DependencyDown(f"Kafka has refused {len(failed)} records: {failed[0].str()}")


def _producer(servers: str) -> Producer:
    return Producer(
        {
            "bootstrap.servers": servers,
            "log_level": 0,  # what matters comes back as an error
            "enable.idempotence": True,
            "max.in.flight.requests.per.connection": 1,  # else a record may be lost: decision 0009
            "partitioner": "murmur2_random",  # as every producer: a user's records meet in one partition
            "compression.type": "lz4",
            "linger.ms": 5,
            "message.max.bytes": 3 * 1024 * 1024,  # above the topics' 2 MiB
            "message.timeout.ms": int(_ACKNOWLEDGED * 1000),
        }
    )
