"""Every log event, metric and span name, with one line of meaning each; and how logs look.

Logs are JSON lines with fixed event strings and key=value facts. Addresses never enter a log line:
`redact` masks the keys that could hold one, and what looks like one in any text, such as a mail server's
answer or a traceback.
Metrics and spans are recorded once a batch: one counter call costs 10 µs, a span 27 µs.
"""

import logging
import re
import sys
import time
from collections.abc import Callable, Generator, Iterable, Mapping, MutableMapping
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import Any, Literal

import orjson
import structlog
from opentelemetry import metrics, trace

from pipeline.model.errors import ConfigurationError

LogEvent = Literal[
    "stage.started",  # a stage is ready for records
    "stage.stopped",  # a stage has finished what it had and leaves
    "stage.failed",  # a stage ends because of an error it cannot handle; the supervisor restarts it
    "dependency.down",  # Kafka, Postgres or the registry does not answer; the stage pauses
    "dependency.back",  # it answers again
    "partitions.assigned",  # this process now owns these partitions
    "partitions.revoked",  # this process no longer owns these partitions
    "state.restored",  # the router has caught up with what was decided
    "state.rebuilt",  # its store on disk was damaged and is read anew from the log
    "batch.committed",  # a batch is durable
    "transaction.aborted",  # a batch is rolled back and will be done again
    "record.rejected",  # a record cannot be read or is not valid: kept in notification.dead
    "delivery.dead",  # deliveries are given up for one reason: kept in notification.dead
    "channel.paused",  # a channel fault: nothing is sent until the probe succeeds
    "channel.resumed",  # the probe succeeded
    "breaker.turned",  # the breaker of a channel's provider has opened, closed, or heard an operator
    "outbox.shares",  # a relay holds more or fewer shares of the outbox than before
    "receipt.refused",  # a callback that is not the provider's, or about nothing that is known
    "outbox.set_aside",  # an outbox row that Kafka refuses is parked
    "publish.abandoned",  # a client was closed before Kafka acknowledged these events: they may be lost
    "request.refused",  # a caller's event is refused at the door
    "ledger.stuck",  # something has neither ended nor moved for longer than it may, or is missing
    "ledger.settled",  # it has ended, or moves again
]

# Metrics (unit): what is counted. Attributes never hold a user, an address or a free text.
Metric = Literal[
    "messaging.client.consumed.messages",  # records read; attributes: destination
    "messaging.client.sent.messages",  # records written; attributes: destination
    "messaging.process.duration",  # seconds a batch took; attributes: stage
    "everpost.decisions",  # decisions; attributes: verdict
    "everpost.attempts",  # attempts to send; attributes: channel, outcome
    "everpost.breaker",  # 0 closed, 1 half open, 2 open, 3 paused by a channel fault; attributes: channel, provider
    "everpost.in_flight",  # requests to a provider that wait for their answer; attributes: channel
    "everpost.ledger.events",  # the balance; attributes: state (accepted, final, in_flight)
    "everpost.ledger.missing",  # things that are missing from the ledger
    "everpost.ledger.stuck",  # what has not moved for longer than it may; attributes: kind, destination, queued
]
Span = Literal[
    "create event",  # sdk: the event is made
    "process batch",  # a stage handles one batch; links to the events' creation
]

# Keys that may hold an address or a secret, in lower case.
_HIDDEN = frozenset({"address", "phone", "email", "token", "value", "subscription", "secret", "password"})


_ADDRESS = re.compile(
    r"""[^\s@<>"',;]+@[^\s@<>"',;]+"""  # mailboxes, and the user's part of a URI
    r"|\+\d{7,15}"  # phones, E.164
    r"|(?<![0-9a-fA-F])[0-9a-fA-F]{64,}"  # device tokens of APNs
    r"|[\w-]+:[\w-]{64,}"  # registration tokens of FCM
    r"|https://[^\s\"']*/[\w:=-]{32,}"  # endpoints of Web Push
)


def redact(_logger: Any, _method: str, fields: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """Structlog processor: replace what could be personal by '***'."""
    for key, value in fields.items():
        fields[key] = "***" if key.lower() in _HIDDEN else _masked(value)
    return fields


def _masked(value: Any) -> Any:
    match value:
        case None | bool() | int() | float():
            return value
        case dict():
            return redact(None, "", {str(key): inner for key, inner in value.items()})
        case list() | tuple():
            return [_masked(inner) for inner in value]
        case _:
            return _ADDRESS.sub("***", str(value))


def configure_logs(*, stage: str, level: str = "info") -> None:
    """JSON lines on standard error, each with the stage's name. Call once a process."""
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.format_exc_info,
            redact,
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
        self._levels: dict[str, Callable[[int, Mapping[str, str]], None]] = {}

    def add(self, name: Metric, amount: int, **attributes: str) -> None:
        """Count `amount` more. Once a batch, not once a record."""
        if amount:
            counter = self._counters.get(name) or self._counters.setdefault(
                name, self._meter.create_counter(name)
            )
            counter.add(amount, attributes)

    def level(self, name: Metric, value: int, **attributes: str) -> None:
        """Record how much there is at this moment."""
        record = self._levels.get(name) or self._levels.setdefault(name, self._meter.create_gauge(name).set)
        record(value, attributes)

    def seconds(self, name: Metric, seconds: float, **attributes: str) -> None:
        """Record a duration."""
        histogram = self._histograms.get(name) or self._histograms.setdefault(
            name, self._meter.create_histogram(name, unit="s")
        )
        histogram.record(seconds, attributes)


_tracer = trace.get_tracer("everpost")
_TRACEPARENT = re.compile(r"[0-9a-f]{2}-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})")  # W3C Trace Context
_LINKS = 128  # of a span, as the SDK keeps by default


_KINDS: Mapping[Span, trace.SpanKind] = {
    "create event": trace.SpanKind.PRODUCER,
    "process batch": trace.SpanKind.CONSUMER,
}


@contextmanager
def span(name: Span, **attributes: str) -> Generator[trace.Span]:
    """Time a piece of work. An error ends it by its type alone: a message may hold an address."""
    with _tracer.start_as_current_span(
        name,
        kind=_KINDS[name],
        attributes=attributes,
        record_exception=False,
        set_status_on_exception=False,
    ) as current:
        try:
            yield current
        except Exception as error:
            current.set_status(trace.StatusCode.ERROR, type(error).__name__)
            raise


def link(current: trace.Span, traceparents: Iterable[str | None]) -> None:
    """Link a span to where its events were made, by their traceparents; what is none is left out.

    Costs nothing for a span that is not sampled.
    """
    if not current.is_recording():
        return
    given = dict.fromkeys(one for one in traceparents if one is not None)
    for found in islice(filter(None, map(_TRACEPARENT.fullmatch, given)), _LINKS):
        trace_id, span_id, flags = (int(part, 16) for part in found.groups())
        context = trace.SpanContext(trace_id, span_id, is_remote=True, trace_flags=trace.TraceFlags(flags))
        current.add_link(context)


class Heartbeat:
    """A file that a stage's loop touches once a second, for a container that asks whether the loop turns.

    It says nothing of Kafka or Postgres: a stage that waits for them is well, and a restart would not help.
    """

    def __init__(self) -> None:
        self._file: Path | None = None
        self._last = 0.0

    def configure(self, file: Path | None) -> None:
        """Touch this file from now on, or none. Raises ConfigurationError when that is not possible."""
        try:
            if file is not None:
                file.touch()
        except OSError as error:
            raise ConfigurationError(
                f"EVERPOST_HEARTBEAT: {error}; name a file that can be written"
            ) from error
        self._file = file

    def beat(self) -> None:
        """The loop has come round."""
        if self._file is not None and (now := time.monotonic()) - self._last >= 1:
            self._file.touch()
            self._last = now


heartbeat = Heartbeat()
