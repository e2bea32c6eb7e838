"""A collector of OpenTelemetry data on the loopback address: OTLP over HTTP, as protobuf."""

from collections.abc import AsyncGenerator, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from aiohttp import web
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import KeyValue
from opentelemetry.proto.metrics.v1.metrics_pb2 import Metric, ResourceMetrics
from opentelemetry.proto.trace.v1.trace_pb2 import ResourceSpans, Span


@dataclass(slots=True)
class Collector:
    """Everything that was sent to it."""

    url: str = ""
    metrics: list[ResourceMetrics] = field(default_factory=list[ResourceMetrics])
    spans: list[ResourceSpans] = field(default_factory=list[ResourceSpans])

    def all_metrics(self) -> list[Metric]:
        """The metrics of every scope, as they came."""
        return [one for resource in self.metrics for scope in resource.scope_metrics for one in scope.metrics]

    def all_spans(self) -> list[Span]:
        """The spans of every scope, as they came."""
        return [one for resource in self.spans for scope in resource.scope_spans for one in scope.spans]

    def resources(self) -> list[dict[str, str]]:
        """Who sent it."""
        return [attributes(each.resource.attributes) for each in (*self.metrics, *self.spans)]


def attributes(pairs: Iterable[KeyValue]) -> dict[str, str]:
    """Attributes as a mapping."""
    return {pair.key: pair.value.string_value for pair in pairs}


@asynccontextmanager
async def collecting() -> AsyncGenerator[Collector]:
    """Listen while the block runs."""
    collector = Collector()

    async def metrics(request: web.Request) -> web.Response:
        collector.metrics.extend(
            ExportMetricsServiceRequest.FromString(await request.read()).resource_metrics
        )
        return web.Response(content_type="application/x-protobuf")

    async def traces(request: web.Request) -> web.Response:
        collector.spans.extend(ExportTraceServiceRequest.FromString(await request.read()).resource_spans)
        return web.Response(content_type="application/x-protobuf")

    application = web.Application()
    application.router.add_post("/v1/metrics", metrics)
    application.router.add_post("/v1/traces", traces)
    runner = web.AppRunner(application)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        collector.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
        yield collector
    finally:
        await runner.cleanup()
