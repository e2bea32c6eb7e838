"""Every log event, metric and span name, with one line of meaning each; and how logs look.

Logs are JSON lines with fixed event strings and key=value facts. Addresses never enter a log line:
`redact` drops the keys that could hold one, whatever the caller passes.
Metrics and spans are recorded once a batch: one counter call costs 10 µs, a span 27 µs.
"""

import logging
import sys
from collections.abc import Mapping, MutableMapping
from typing import Any, Literal

import orjson
import structlog
from opentelemetry import metrics, trace

LogEvent = Literal[
    "stage.started",  # a stage is ready for records
    "stage.stopped",  # a stage has finished what it had and leaves
    "stage.failed",  # a stage ends because of an error it cannot handle; the supervisor restarts it
    "dependency.down",  # Kafka, Postgres or the registry does not answer; the stage pauses
    "dependency.back",  # it answers again
    "partitions.assigned",  # this process now owns these partitions
    "partitions.revoked",  # this process no longer owns these partitions
    "state.restored",  # the router has read its decisions back
    "batch.committed",  # a batch is durable
    "transaction.aborted",  # a batch is rolled back and will be done again
    "record.rejected",  # a record cannot be read or is not valid: kept in notification.dead
    "delivery.dead",  # a delivery is given up: kept in notification.dead
    "channel.paused",  # a channel fault: nothing is sent until the probe succeeds
    "channel.resumed",  # the probe succeeded
    "outbox.set_aside",  # an outbox row that Kafka refuses is parked
    "address.deactivated",  # the provider says that an address is dead
    "publish.abandoned",  # a client was closed before Kafka acknowledged these events: they may be lost
    "request.refused",  # a caller's event is refused at the door
]

# Metrics (unit): what is counted. Attributes never hold a user, an address or a free text.
Metric = Literal[
    "messaging.client.consumed.messages",  # records read; attributes: destination
    "messaging.client.sent.messages",  # records written; attributes: destination
    "messaging.process.duration",  # seconds a batch took; attributes: stage
    "everpost.decisions",  # decisions; attributes: verdict
    "everpost.attempts",  # attempts to send; attributes: channel, outcome
    "everpost.in_flight",  # requests to a provider that wait for their answer; attributes: channel
]
Span = Literal[
    "create event",  # sdk: the event is made
    "process batch",  # a stage handles one batch; links to the events' creation
]

# Keys that may hold an address or a secret, in whatever spelling a caller chooses.
_HIDDEN = frozenset({"address", "phone", "email", "token", "value", "subscription", "secret", "password"})


def redact(_logger: Any, _method: str, fields: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """Structlog processor: replace what could be personal by '***'."""
    for key in fields.keys() & _HIDDEN:
        fields[key] = "***"
    return fields


def configure_logs(*, stage: str, level: str = "info") -> None:
    """JSON lines on standard error, each with the stage's name. Call once a process."""
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            redact,
            structlog.processors.add_log_level,
            structlog.processors.format_exc_info,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.JSONRenderer(serializer=orjson.dumps),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(logging.getLevelNamesMapping()[level.upper()]),
        logger_factory=structlog.BytesLoggerFactory(sys.stderr.buffer),
        cache_logger_on_first_use=True,
    )
    structlog.contextvars.bind_contextvars(stage=stage)


class Log:
    """A logger that takes only the names above, so that a typo is a type error."""

    def __init__(self, name: str) -> None:
        self._log = structlog.get_logger(name)

    def info(self, event: LogEvent, **facts: Any) -> None:
        """Something that an operator may want to follow."""
        self._log.info(event, **facts)

    def warning(self, event: LogEvent, **facts: Any) -> None:
        """Something that needs a look when it goes on."""
        self._log.warning(event, **facts)

    def error(self, event: LogEvent, **facts: Any) -> None:
        """Something that needs a hand."""
        self._log.error(event, **facts)


class Outage:
    """Tells once that a dependency is away, and once that it is back."""

    def __init__(self, log: Log) -> None:
        self._log = log
        self._away = False

    def down(self, error: Exception) -> None:
        """It did not answer."""
        if not self._away:
            self._log.warning("dependency.down", error=str(error))
        self._away = True

    def back(self) -> None:
        """It answered."""
        if self._away:
            self._log.info("dependency.back")
        self._away = False


class Meter:
    """Counters and histograms by name; a process that configures no exporter pays next to nothing."""

    def __init__(self) -> None:
        self._meter = metrics.get_meter("everpost")
        self._counters: dict[str, metrics.Counter] = {}
        self._histograms: dict[str, metrics.Histogram] = {}

    def add(self, name: Metric, amount: int, **attributes: str) -> None:
        """Count `amount` more. Once a batch, not once a record."""
        if amount:
            counter = self._counters.get(name) or self._counters.setdefault(
                name, self._meter.create_counter(name)
            )
            counter.add(amount, attributes)

    def seconds(self, name: Metric, seconds: float, **attributes: str) -> None:
        """Record a duration."""
        histogram = self._histograms.get(name) or self._histograms.setdefault(
            name, self._meter.create_histogram(name, unit="s")
        )
        histogram.record(seconds, attributes)


def links(traceparents: Mapping[str, int]) -> list[trace.Link]:
    """Span links to the creation of events, from their W3C traceparents (at most 128 are kept)."""
    found: list[trace.Link] = []
    for traceparent in list(traceparents)[:128]:
        parts = traceparent.split("-")
        if len(parts) == 4 and len(parts[1]) == 32 and len(parts[2]) == 16:
            context = trace.SpanContext(
                int(parts[1], 16),
                int(parts[2], 16),
                is_remote=True,
                trace_flags=trace.TraceFlags(int(parts[3], 16)),
            )
            found.append(trace.Link(context))
    return found
