"""What a running stage tells a collector, and what a collector that is away costs it."""

import asyncio
import os
import signal
import socket
import sys
import time
from functools import partial
from pathlib import Path

import pytest

from pipeline.adapters.kafka.admin import apply
from pipeline.adapters.postgres.pool import transaction
from pipeline.adapters.postgres.profiles import save_profiles
from pipeline.adapters.telemetry import ENDPOINT
from pipeline.model.topics import table
from pipeline.sdk import Client, new_event
from pipeline.settings import Settings
from pipeline.wiring import catalogue
from tests.support.collector import Collector, attributes, collecting
from tests.support.database import migrated
from tests.support.eventually import eventually
from tests.support.make import profile

pytestmark = pytest.mark.integration
TRACE, SPAN = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
FLIGHT = {
    "flight": "UA 1018",
    "carrier": "United",
    "origin": "EWR",
    "destination": "IAH",
    "scheduled": "05:25",
}
SILENT = """
from pipeline.adapters.telemetry import exported
from pipeline.observe import Meter, span
with exported("route", "0"), span("process batch", stage="route"):
    Meter().add("everpost.decisions", 1, verdict="deliver")
"""


async def publish(kafka: str, postgres: str) -> None:
    """One event with a trace, for a user with one address."""
    await asyncio.to_thread(apply, kafka, table(), 1)
    async with migrated(postgres) as pool, transaction(pool) as connection:
        await save_profiles(connection, [profile(channels=["sms"])])
    async with Client(kafka, catalogue=catalogue(Settings()).types) as client:
        await client.publish(
            new_event(
                "flight.cancelled",
                tenant="acme",
                user_id="u-1",
                data=FLIGHT,
                traceparent=f"00-{TRACE}-{SPAN}-01",
            )
        )


async def told(collector: Collector) -> bool:
    """Whether the span that handled our event has come, and counters."""
    linked = any(link.trace_id.hex() == TRACE for span in collector.all_spans() for link in span.links)
    return linked and "everpost.decisions" in {metric.name for metric in collector.all_metrics()}


async def changed(file: Path, since: int) -> bool:
    """Whether the file was touched again."""
    return file.stat().st_mtime_ns != since  # noqa: ASYNC240 - a look at a local file


async def test_a_stage_sends_its_metrics_and_spans(kafka: str, postgres: str, tmp_path: Path) -> None:
    """Counters, durations and a span a batch that names the events' makers; the heartbeat goes on."""
    await publish(kafka, postgres)
    heartbeat = tmp_path / "heartbeat"
    async with collecting() as collector:
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "pipeline.cli.main",
            "run",
            "route",
            env=os.environ
            | {
                "EVERPOST_BOOTSTRAP_SERVERS": kafka,
                "EVERPOST_POSTGRES_DSN": postgres,
                "EVERPOST_HEARTBEAT": str(heartbeat),
                "OTEL_BSP_SCHEDULE_DELAY": "100",
                "OTEL_METRIC_EXPORT_INTERVAL": "100",
                "OTEL_TRACES_SAMPLER": "always_on",
                ENDPOINT: collector.url,
            },
        )
        try:
            await eventually(partial(told, collector), 60)
            beaten = heartbeat.stat().st_mtime_ns
            await eventually(partial(changed, heartbeat, beaten))
            process.send_signal(signal.SIGTERM)
            assert await asyncio.wait_for(process.wait(), 60) == 0
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()
    names = {metric.name for metric in collector.all_metrics()}
    assert {"everpost.decisions", "messaging.process.duration"} <= names
    ours = [span for span in collector.all_spans() if any(link.span_id.hex() == SPAN for link in span.links)]
    assert {(span.name, attributes(span.attributes)["stage"]) for span in ours} == {
        ("process batch", "route")
    }
    for resource in collector.resources():
        assert resource["service.name"] == "everpost-route"
        assert resource["service.instance.id"] == "0"
        assert resource["service.version"]


async def test_a_silent_collector_holds_nobody_up() -> None:
    """A collector that accepts and never answers costs a leaving stage a few seconds, and no error."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        began = time.monotonic()
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-c",
            SILENT,
            env=os.environ
            | {ENDPOINT: f"http://127.0.0.1:{silent.getsockname()[1]}", "OTEL_TRACES_SAMPLER": "always_on"},
        )
        assert await asyncio.wait_for(process.wait(), 60) == 0
        assert time.monotonic() - began < 10
