"""An outbox poller as most are written: take rows with `for update skip locked`, produce, delete, commit.

One transaction a batch; it makes no promise of order when several run. `DSN SERVERS TABLE BATCH`, until it is ended.
"""

import asyncio
import sys

import asyncpg
import orjson
from confluent_kafka import Producer

_CLAIM = """
select id, aggregatetype, aggregateid, payload, headers from {table}
order by seq limit $1 for update skip locked
"""
_DELETE = "delete from {table} where id = any($1)"


async def _main(dsn: str, servers: str, table: str, batch: int) -> None:
    connection = await asyncpg.connect(dsn, server_settings={"jit": "off"})
    producer = Producer(
        {
            "bootstrap.servers": servers,
            "enable.idempotence": True,
            "partitioner": "murmur2_random",
            "compression.type": "lz4",
            "linger.ms": 5,
        }
    )
    failed: list[object] = []

    def told(error: object, _message: object) -> None:
        if error is not None:
            failed.append(error)

    while True:
        async with connection.transaction():
            rows = await connection.fetch(_CLAIM.format(table=table), batch)
            for row in rows:
                headers = list(orjson.loads(row["headers"]).items())
                producer.produce(
                    row["aggregatetype"],
                    row["payload"],
                    row["aggregateid"],
                    headers=headers,
                    on_delivery=told,
                )
            if producer.flush(30) or failed:
                raise RuntimeError(f"not acknowledged: {failed[:1]}")
            await connection.execute(_DELETE.format(table=table), [row["id"] for row in rows])
        if not rows:
            await asyncio.sleep(0.05)


if __name__ == "__main__":
    asyncio.run(_main(sys.argv[1], sys.argv[2], sys.argv[3], int(sys.argv[4])))
