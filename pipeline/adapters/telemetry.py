"""Metrics and spans of this process, sent by OTLP over HTTP when OTEL_EXPORTER_OTLP_ENDPOINT is set.

The variables are OpenTelemetry's own, read by its SDK: OTEL_EXPORTER_OTLP_HEADERS, OTEL_RESOURCE_ATTRIBUTES,
OTEL_METRIC_EXPORT_INTERVAL, OTEL_TRACES_SAMPLER and others. The exporters are found by entry point, since
they are an extra. A collector that is away costs the process nothing but its measurements.
"""

import os
from collections.abc import Generator
from contextlib import contextmanager
from importlib.metadata import entry_points, version
from typing import Any

from opentelemetry import metrics, trace
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import PeriodicExportingMetricReader
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.sdk.trace.sampling import ParentBased, TraceIdRatioBased

from pipeline.model.errors import ConfigurationError

ENDPOINT = "OTEL_EXPORTER_OTLP_ENDPOINT"
_EXPORTER = "otlp_proto_http"
_SAMPLER = "OTEL_TRACES_SAMPLER"
_SAMPLED = 0.1  # of the batches: a sender writes hundreds a second, and each looks like the next
_TIMEOUT = 2.0  # seconds that one export may take, repeats included; so a stage leaves in twice that


@contextmanager
def exported(stage: str, instance: str) -> Generator[None]:
    """Send what is measured while the block runs, and the rest of it at the end. Once a process.

    Raises ConfigurationError when an endpoint is set and the exporter is not installed.
    """
    if not os.environ.get(ENDPOINT):
        yield
        return
    resource = Resource.create(
        {
            "service.namespace": "everpost",
            "service.name": f"everpost-{stage}",
            "service.instance.id": instance,
            "service.version": version("everpost"),
        }
    )
    reader = PeriodicExportingMetricReader(_exporter("metrics"), export_timeout_millis=_TIMEOUT * 1000)
    meters = MeterProvider([reader], resource, shutdown_on_exit=False)
    sampler = None if _SAMPLER in os.environ else ParentBased(TraceIdRatioBased(_SAMPLED))
    tracers = TracerProvider(sampler, resource, shutdown_on_exit=False)
    tracers.add_span_processor(BatchSpanProcessor(_exporter("traces")))
    metrics.set_meter_provider(meters)
    trace.set_tracer_provider(tracers)
    try:
        yield
    finally:
        tracers.shutdown()
        meters.shutdown(_TIMEOUT * 1000)


def _exporter(signal: str) -> Any:
    found = entry_points(group=f"opentelemetry_{signal}_exporter", name=_EXPORTER)
    if not found:
        raise ConfigurationError(f"{ENDPOINT} is set: pip install 'everpost[otel]', or unset it")
    return next(iter(found)).load()(timeout=_TIMEOUT)
