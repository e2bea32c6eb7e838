"""Consumer groups that an operator moves."""

from confluent_kafka import Consumer, KafkaError, KafkaException, TopicPartition

from pipeline.adapters.kafka.ends import end_offsets
from tests.support import services


def read_to_the_end(kafka: str, group: str, topic: str) -> None:
    """The group commits all that is there, once it has no members: static ones stay for their session."""
    consumer = Consumer({"bootstrap.servers": kafka, "group.id": group, "enable.auto.commit": False})
    try:
        ends = [TopicPartition(*place, end) for place, end in end_offsets(kafka, [topic]).items()]
        services.until(lambda: _committed(consumer, ends))
    finally:
        consumer.close()


def _committed(consumer: Consumer, ends: list[TopicPartition]) -> bool:
    try:
        consumer.commit(offsets=ends, asynchronous=False)
    except KafkaException as error:
        if error.args[0].code() != KafkaError.UNKNOWN_MEMBER_ID:
            raise
        return False
    return True
