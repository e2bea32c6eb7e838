"""What the router writes in one transaction, through a broker that refuses first writes."""

import asyncio
import secrets
from collections.abc import Sequence

import pytest

from pipeline.adapters.kafka.transact import Transactor
from pipeline.model.record import Message, Written
from pipeline.model.topics import ENGAGEMENT, events
from tests.support.refusing import refusing
from tests.support.topics import create_topics, read_tenant

pytestmark = pytest.mark.integration
_LARGE = 400_000  # bytes that do not compress: three fill a request, so that there are several at once


class Nothing:
    """A state that remembers nothing."""

    def restore(self, partitions: Sequence[int]) -> None:
        """Nothing to read back."""

    def next_offset(self, topic: str, partition: int) -> int:
        """Nothing is decided."""
        return 0


def commit(servers: str, group: str, messages: list[Message]) -> None:
    """All messages in one transaction, as the router writes them."""
    transactor = Transactor(servers, group=group, instance="0", topics=[events("bulk")], state=Nothing())
    try:
        transactor.start()
        while not transactor.epoch:
            transactor.poll(1, 0.5)
        assert transactor.commit(Written(messages={ENGAGEMENT: messages}), []) == {}
    finally:
        transactor.close()


async def test_what_the_router_commits_is_all_there(kafka: str) -> None:
    """Also when the broker refuses the first request to a partition and takes the second."""
    create_topics(kafka)
    tenant = f"transact-{secrets.token_hex(6)}"
    messages = [
        Message(value=secrets.token_bytes(_LARGE), key=f"{tenant}/u".encode(), partition=0) for _ in range(8)
    ]
    async with refusing(kafka) as servers:
        await asyncio.wait_for(asyncio.to_thread(commit, servers, tenant, messages), 60)
    found = await asyncio.to_thread(read_tenant, kafka, ENGAGEMENT, tenant)
    assert [message.value() for message in found] == [message["value"] for message in messages]
