"""Writing on asyncio: idempotent, acknowledged by all in-sync replicas, nothing written twice by us.

aiokafka's partitioner is murmur2, like the one of every other producer of everpost.
"""

import asyncio
from collections import defaultdict
from collections.abc import Sequence
from typing import Any, Self

from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaError, KafkaTimeoutError, MessageSizeTooLargeError

from pipeline.model.errors import DependencyDown, PayloadTooLarge
from pipeline.model.record import Writable

_START = 30.0  # seconds
_STOP = 5.0  # seconds
_LARGEST = 2 * 1024 * 1024  # bytes: a record of the broker's 1 MB limit and the headers of a dead letter


class KafkaProducer:
    """One idempotent producer. Use it from one event loop."""

    def __init__(self, client: AIOKafkaProducer, servers: str, deadline: float) -> None:
        self._client = client
        self._servers = servers
        self._deadline = deadline
        # Records of a call that ran out of time, still on their way: an idempotent producer tries them
        # for ever, so the caller's next try must join them, or each would be written twice.
        self._late: dict[Writable, list[asyncio.Future[Any]]] = defaultdict(list)

    @classmethod
    async def open(cls, servers: str, *, client_id: str, deadline: float = 30.0) -> Self:
        """Connect. `deadline`: seconds that one `send_all` may take. Raises DependencyDown."""
        client = AIOKafkaProducer(
            bootstrap_servers=servers,
            client_id=client_id,
            acks="all",
            enable_idempotence=True,
            compression_type="lz4",
            linger_ms=2,  # records come in batches already
            max_batch_size=128 * 1024,
            max_request_size=_LARGEST,
            request_timeout_ms=10_000,
        )
        try:
            async with asyncio.timeout(_START):
                await client.start()
        except (KafkaError, OSError, TimeoutError) as error:
            await client.stop()
            raise DependencyDown(f"Kafka at {servers} does not answer: {error!r}") from error
        return cls(client, servers, deadline)

    async def send_all(self, records: Sequence[Writable]) -> None:
        """Return when every record is acknowledged.

        Raises DependencyDown when not all were in time; the same records again are not written a
        second time, but waited for. Raises PayloadTooLarge when one is above what the topics accept.
        Any other KafkaError is fatal for this producer: end the process, its successor starts clean.
        """
        for record in records:
            _check_size(record)
        waiting: list[tuple[Writable, asyncio.Future[Any]]] = []
        try:
            async with asyncio.timeout(self._deadline):
                for record in records:
                    waiting.append((record, self._joined(record) or await self._send(record)))  # noqa: PERF401
                # Not gather: at the deadline it would cancel the futures that a later call must join.
                if waiting:
                    await asyncio.wait([future for _, future in waiting])
        except TimeoutError as error:
            self._keep(waiting)
            raise DependencyDown(
                f"Kafka at {self._servers} has not acknowledged {len(records)} records in {self._deadline} s"
            ) from error
        except KafkaError as error:
            self._keep(waiting)
            raise self._translated(error) from error
        for error in [future.exception() for _, future in waiting]:
            if error is not None:
                raise self._translated(error) from error

    async def aclose(self) -> None:
        """Flush for a moment and disconnect."""
        try:
            async with asyncio.timeout(_STOP):
                await self._client.stop()
        except TimeoutError:
            return  # the broker is away; whoever waited for these records does not count them as written

    async def _send(self, record: Writable) -> asyncio.Future[Any]:
        # aiokafka asserts that there is a key or a value; a poison record may have neither.
        value = b"" if record.key is None and record.value is None else record.value
        return await self._client.send(
            record.topic,
            key=record.key,
            value=value,
            partition=record.partition,
            headers=list(record.headers),
        )

    def _translated(self, error: BaseException) -> BaseException:
        if isinstance(error, MessageSizeTooLargeError):
            return PayloadTooLarge(f"a record is larger than its topic accepts: {error}")
        if isinstance(error, KafkaTimeoutError) or getattr(error, "retriable", False):
            return DependencyDown(f"Kafka at {self._servers} does not acknowledge: {error!r}")
        return error

    def _joined(self, record: Writable) -> asyncio.Future[Any] | None:
        late = self._late.get(record) if self._late else None
        if not late:
            return None
        future = late.pop()
        if not late:
            del self._late[record]
        return future

    def _keep(self, waiting: Sequence[tuple[Writable, asyncio.Future[Any]]]) -> None:
        for record, future in waiting:
            if not (future.done() and (future.cancelled() or future.exception())):
                self._late[record].append(future)


def _check_size(record: Writable) -> None:
    size = len(record.key or b"") + len(record.value or b"")
    size += sum(len(name) + len(value) for name, value in record.headers)
    if size > _LARGEST - 1024:  # what the format adds to a record
        raise PayloadTooLarge(f"a record for {record.topic} has {size} bytes, at most {_LARGEST - 1024}")
