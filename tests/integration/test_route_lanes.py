"""Urgent events do not wait behind a queue of bulk ones."""

from datetime import timedelta
from uuid import uuid4  # noqa: TID251 - ids of a run of its own, on a broker that other tests use

import pytest
from confluent_kafka import Producer

from pipeline.adapters.kafka.admin import apply
from pipeline.adapters.kafka.readback import values
from pipeline.model.decision import Decision
from pipeline.model.topics import DECISIONS, events, table
from tests.integration.test_route import WIRE, everybody, now, running
from tests.support.make import event
from tests.support.services import until

pytestmark = pytest.mark.integration
BULK = 12_000  # events of 1.2 KB: 14 MB, of which 4 MB and a fetch are read ahead


def test_urgent_overtakes_bulk(kafka: str) -> None:
    """With bulk queued before it, an urgent event is decided after at most what was read ahead: 4 MB and a fetch."""
    apply(kafka, table(4), 1)
    run, began = str(uuid4()), now()
    producer = Producer(
        {
            "bootstrap.servers": kafka,
            "partitioner": "murmur2_random",
            "queue.buffering.max.messages": BULK,
            "batch.num.messages": 200,
        }
    )
    words = {"flight": "UA 1018" * 150}
    queued = [
        event(f"{run}-{n}", f"u-{n % 500}", priority="bulk", created_at=began, data=words)
        for n in range(BULK)
    ]
    producer.produce_batch(events("bulk"), [{"key": e.key, "value": WIRE.encode(e)} for e in queued])
    assert producer.flush(60) == 0
    urgent = event(f"{run}-urgent", "u-1", priority="urgent", created_at=began)
    producer.produce(events("urgent"), WIRE.encode(urgent), urgent.key)
    assert producer.flush(60) == 0

    def decided() -> list[bytes]:
        return list(values(kafka, DECISIONS, range(4), began - timedelta(seconds=1)))

    with running(kafka, everybody):
        until(lambda: sum(run.encode() in value for value in decided()) > BULK, 60, 0.5)
    mine = [d for d in (WIRE.decode(Decision, value) for value in decided()) if d.event_id.startswith(run)]
    (own,) = (d for d in mine if d.lane == "urgent")
    before = sum(d.decided_at < own.decided_at for d in mine)
    assert before < BULK * 2 / 3
