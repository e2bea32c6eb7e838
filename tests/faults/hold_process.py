"""A hold stage in a process of its own, which kills itself at a step: `DSN SERVERS NOW STEP`.

It ends by SIGKILL as soon as it has reached STEP with something in hand; without a step it runs until
it is told to stop by SIGTERM. NOW is what its clock says, in ISO 8601.
"""

import asyncio
import os
import signal
import sys
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from datetime import datetime

from pipeline.adapters.kafka.consume import KafkaConsumer
from pipeline.adapters.kafka.produce import KafkaProducer
from pipeline.adapters.postgres.pool import close, connect
from pipeline.adapters.postgres.timers import PostgresTimers
from pipeline.adapters.wire.codec import Wire
from pipeline.adapters.wire.ids import LockFile
from pipeline.model.hold import Timer
from pipeline.model.topics import HOLDS
from pipeline.observe import Meter
from pipeline.stages.hold.step import Holder, run

GROUP = "everpost.hold-that-dies"
RELEASING = ("claimed", "produced", "forgotten")
_BATCH = 7  # small, so that many rounds lie between two kills


class _Watched(PostgresTimers):
    """Knows whether the last question brought timers."""

    held: Sequence[Timer] = ()

    @asynccontextmanager
    async def due(self, now: datetime, limit: int) -> AsyncGenerator[Sequence[Timer]]:
        """As the timers; notes what came."""
        async with super().due(now, limit) as self.held:
            yield self.held


async def _main(dsn: str, servers: str, now: str, fatal: str) -> None:
    pool = await connect(dsn)
    timers = _Watched(pool)
    producer = await KafkaProducer.open(servers, client_id="hold-that-dies")
    consumer = await KafkaConsumer.open(servers, [HOLDS], group=GROUP, instance="0")
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)

    def reached(step: str) -> None:
        # Only a batch that was read gets to the first steps.
        if step == fatal and (step not in RELEASING or timers.held):
            os.kill(os.getpid(), signal.SIGKILL)

    holder = Holder(
        consumer=consumer,
        producer=producer,
        wire=Wire(LockFile()),
        timers=timers,
        clock=lambda: datetime.fromisoformat(now),
        meter=Meter(),
        limit=_BATCH,
        reached=reached,
    )
    await run(holder, stop)
    await consumer.aclose()
    await producer.aclose()
    await close(pool)


if __name__ == "__main__":
    asyncio.run(_main(*sys.argv[1:]))
