"""What a replay writes in one transaction, through a broker that refuses first writes."""

import asyncio
import secrets

import pytest

from pipeline.adapters.kafka.ends import end_offsets
from pipeline.adapters.kafka.forward import Forwarder
from pipeline.adapters.kafka.rewrite import Rewriter
from pipeline.model.record import Outgoing
from pipeline.model.replay import Pace, Range, Run, Selection, Terms
from pipeline.model.topics import DEAD, ENGAGEMENT, RELEASED
from tests.support.make import NOW
from tests.support.refusing import refusing
from tests.support.topics import create_topics, read_tenant

pytestmark = pytest.mark.integration
_LARGE = 400_000  # bytes that do not compress: three fill a request, so that there are several at once


def run_of(tenant: str) -> Run:
    """A run over one partition of the dead letters."""
    return Run(
        run_id=tenant,
        kind="replay",
        who="a test",
        why="a test",
        at=NOW,
        ranges=(Range(topic=DEAD, partition=0, first=0, end=1),),
        selection=Selection(),
        pace=Pace(),
        terms=Terms(),
    )


def forward(servers: str, run: Run, records: list[Outgoing]) -> None:
    """All records in one transaction, as a run writes them."""
    forwarder = Forwarder.open(servers, run)
    try:
        forwarder.write(records, {(DEAD, 0): (1, {"sent": len(records)})})
    finally:
        forwarder.close()


async def test_what_a_transaction_commits_is_all_there(kafka: str) -> None:
    """Also when the broker refuses the first request to a partition and takes the second."""
    create_topics(kafka)
    tenant = f"forward-{secrets.token_hex(6)}"
    records = [
        Outgoing(topic=ENGAGEMENT, key=f"{tenant}/u".encode(), value=secrets.token_bytes(_LARGE), partition=0)
        for _ in range(8)
    ]
    async with refusing(kafka) as servers:
        await asyncio.wait_for(asyncio.to_thread(forward, servers, run_of(tenant), records), 60)
    found = await asyncio.to_thread(read_tenant, kafka, ENGAGEMENT, tenant)
    assert [message.value() for message in found] == [record.value for record in records]


def test_what_the_router_reads_again_has_no_marker_behind_it(kafka: str) -> None:
    """The ledger counts its offsets: two records are two, and the position is committed with the others."""
    create_topics(kafka)
    tenant = f"forward-{secrets.token_hex(6)}"
    run = run_of(tenant)
    again = [Outgoing(topic=RELEASED, key=tenant.encode(), value=b"x", partition=n) for n in (0, 0)]
    other = Outgoing(topic=ENGAGEMENT, key=f"{tenant}/u".encode(), value=b"y", partition=0)
    before = end_offsets(kafka, [RELEASED])[RELEASED, 0]
    forwarder = Forwarder.open(kafka, run)
    try:
        writer = Rewriter(kafka, forwarder)
        writer.write([again[0], other, again[1]], {(DEAD, 0): (1, {"sent": 3})})
        assert writer.progress() == {(DEAD, 0): (1, {"sent": 3})}
    finally:
        forwarder.close()
    assert end_offsets(kafka, [RELEASED])[RELEASED, 0] == before + 2
    assert [message.value() for message in read_tenant(kafka, ENGAGEMENT, tenant)] == [b"y"]
