"""A relay in a process of its own, which kills itself at a step: `DSN SERVERS STEP`.

It ends by SIGKILL as soon as it has reached STEP with rows in hand; without a step it runs until the
outbox is empty.
"""

import asyncio
import os
import signal
import sys
from collections.abc import Sequence

from pipeline.adapters.kafka.produce import KafkaProducer
from pipeline.adapters.postgres.outbox import PostgresOutbox
from pipeline.adapters.postgres.pool import close, connect
from pipeline.model.shares import SHARES
from pipeline.ports import OutboxRow
from pipeline.stages.relay.step import run

_BATCH = 7  # small, so that many rounds lie between two kills: one row of each share


class _Watched(PostgresOutbox):
    """Knows whether the last claim brought rows."""

    rows: Sequence[OutboxRow] = ()

    async def claim(self, limit: int) -> Sequence[OutboxRow]:
        """As the outbox; notes what came."""
        self.rows = await super().claim(limit)
        return self.rows


async def _main(dsn: str, servers: str, fatal: str) -> None:
    pool = await connect(dsn)
    outbox = _Watched(pool)
    producer = await KafkaProducer.open(servers, client_id="relay-that-dies")
    stop = asyncio.Event()

    def reached(step: str) -> None:
        if outbox.rows and step == fatal:
            os.kill(os.getpid(), signal.SIGKILL)
        if not fatal and not outbox.rows and len(outbox.held) == SHARES:
            stop.set()

    await run(outbox, producer, stop=stop, limit=_BATCH, reached=reached)
    await outbox.aclose()
    await producer.aclose()
    await close(pool)


if __name__ == "__main__":
    asyncio.run(_main(*sys.argv[1:]))
