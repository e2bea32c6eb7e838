"""A producer that takes packed records, past the client's objects where that could be compiled."""

from collections.abc import Mapping
from typing import Any, cast

from confluent_kafka import KafkaError, KafkaException, Producer

from pipeline.model.record import unpack

try:
    from pipeline.adapters.kafka.native import direct
except ImportError:  # there was no C compiler when it was installed
    direct = None

# librdkafka loads it by this setting, whose separator is a semicolon.
_DIRECT = direct if direct is not None and direct.FOUND and ";" not in direct.__file__ else None
COMPILED = _DIRECT is not None
METADATA = 2.0  # seconds for a broker to tell of one topic


class BulkProducer:
    """A producer and its short way in. Not thread-safe."""

    def __init__(self, config: Mapping[str, str | int | bool], *, counted: bool = False) -> None:
        settings = dict(config)
        self._known: set[str] = set()
        if _DIRECT is None:
            self._direct, self.producer = None, Producer(settings)
        else:
            settings["plugin.library.paths"] = _DIRECT.__file__
            self._direct = _DIRECT.Direct(lambda: Producer(settings), counted)
            self.producer = self._direct.made

    def queue(self, topic: str, packed: bytearray) -> None:
        """Queue records as `Written` packs them. Raises KafkaException when one is refused."""
        if self._direct is None:
            self._one_by_one(topic, packed)
            return
        if topic not in self._known:
            # Of a topic that it has not met, librdkafka 2.16 would register partition -1 with the transaction,
            # which the broker refuses until the deadline.
            self.producer.list_topics(topic, timeout=METADATA)
            self._known.add(topic)
        if error := self._direct.produce(topic, packed):
            raise KafkaException(KafkaError(error))

    @property
    def counts(self) -> tuple[int, int, int]:
        """Of all that was ever queued: how many records are acknowledged, how many failed, the last error's code.

        Only of a producer that is compiled (`COMPILED`) and `counted`.
        """
        assert self._direct is not None, "nobody counts in a producer that is not compiled"
        return self._direct.counts

    def _one_by_one(self, topic: str, packed: bytearray) -> None:
        batch = cast("list[dict[str, Any]]", list(unpack(packed)))
        if self.producer.produce_batch(topic, batch) != len(batch):
            raise KafkaException(next(message["_error"] for message in batch if "_error" in message))
