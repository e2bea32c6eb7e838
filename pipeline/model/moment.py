"""Moments as Avro and Kafka write them: milliseconds since 1970, UTC."""

from datetime import UTC, datetime, timedelta

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MS = timedelta(milliseconds=1)


def ms(at: datetime) -> int:
    """Milliseconds since 1970, without what is below one."""
    return (at - _EPOCH) // _MS


def moment(ms: int) -> datetime:
    """The moment, UTC."""
    return _EPOCH + timedelta(milliseconds=ms)
