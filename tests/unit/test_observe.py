"""Logs without addresses, links to events, the heartbeat, and the exporter that is not installed."""

import json
import subprocess
import sys
from pathlib import Path
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider

from pipeline.adapters import telemetry
from pipeline.model.errors import ConfigurationError
from pipeline.observe import Heartbeat, link, redact

ADDRESSES = [
    "ann@example.com",
    "+19175550100",
    "a1" * 32,  # a device token of APNs
    "dGhpcyBpcyBh:APA91b" + "H" * 128,  # a registration token of FCM
    "https://push.example.net/wpush/v2/gAAAAABm" + "x" * 60,
    "postgresql://everpost:secret@db.internal/everpost",
]
KEYS = ["address", "phone", "Email", "TOKEN", "value", "subscription", "secret", "password"]
words = st.text(st.characters(categories=["Lu", "Ll", "Nd", "Zs"]), max_size=20)


@given(before=words, address=st.sampled_from(ADDRESSES), after=words, key=words)
def test_no_address_is_logged_whatever_the_key(before: str, address: str, after: str, key: str) -> None:
    """A mail server's answer, a traceback or a nested value may name an address: it is masked."""
    text = f"{before} <{address}> {after}"
    for value in (text, [text], {"inner": {"text": text}}, ValueError(text), (1, text)):
        assert address not in json.dumps(redact(None, "info", {key: value}))


@given(key=st.sampled_from(KEYS), value=words)
def test_what_is_named_as_an_address_is_masked(key: str, value: str) -> None:
    """The keys that hold addresses and secrets are masked, whatever is in them."""
    assert redact(None, "info", {key: value}) == {key: "***"}


@given(id=st.uuids(), count=st.integers(), seconds=st.floats(allow_nan=False), good=st.booleans())
def test_facts_stay_readable(id: UUID, count: int, seconds: float, good: bool) -> None:
    """Ids, numbers and topics are what logs are searched by."""
    facts = {
        "event_id": str(id),
        "n": count,
        "s": seconds,
        "good": good,
        "topic": "notification.deliver.sms.bulk",
    }
    assert redact(None, "info", dict(facts)) == facts


def test_no_address_in_a_written_line() -> None:
    """The log as a process writes it: fields, nested fields and the traceback of an error."""
    program = (
        "import structlog; from pipeline.observe import configure_logs\n"
        "configure_logs(stage='send')\n"
        "try: raise ValueError('550 <ann@example.com> unknown')\n"
        "except ValueError: structlog.get_logger().error('x', exc_info=True, reply=['+19175550100'], email='ann')\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=30
    )
    line = json.loads(done.stderr)
    assert "Traceback" in line["exception"]
    assert "ValueError: 550 <***> unknown" in line["exception"]
    assert (line["reply"], line["email"], line["stage"]) == (["***"], "***", "send")
    assert line["timestamp"].startswith("20")


GOOD = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


@given(st.lists(st.none() | st.text(max_size=60) | st.just(GOOD), max_size=300))
def test_links_take_any_text(traceparents: list[str | None]) -> None:
    """A traceparent comes from outside: what is none is left out, and the same one is linked once."""
    span = TracerProvider(shutdown_on_exit=False).get_tracer("test").start_span("process batch")
    assert isinstance(span, trace.Span)
    link(span, traceparents)
    found = [one.context for one in getattr(span, "links", ())]
    assert [f"{one.trace_id:032x}-{one.span_id:016x}" for one in found] == [GOOD[3:52]] * (
        GOOD in traceparents
    )


def test_a_heartbeat_that_cannot_be_written_is_an_error(tmp_path: Path) -> None:
    """The operator hears of it at the start, by the variable's name."""
    with pytest.raises(ConfigurationError, match="EVERPOST_HEARTBEAT"):
        Heartbeat().configure(tmp_path / "missing" / "heartbeat")


def test_a_heartbeat_touches_its_file(tmp_path: Path) -> None:
    """The first turn of the loop touches it; without a file nothing happens."""
    heartbeat, file = Heartbeat(), tmp_path / "heartbeat"
    heartbeat.beat()
    heartbeat.configure(file)
    file.unlink()
    heartbeat.beat()
    assert file.exists()


def test_an_exporter_that_is_not_installed_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """An endpoint without the extra is the operator's fault, and the message says what to install."""
    monkeypatch.setenv(telemetry.ENDPOINT, "http://127.0.0.1:9")
    monkeypatch.setattr(telemetry, "_EXPORTER", "not_installed")
    with pytest.raises(ConfigurationError, match=r"everpost\[otel\]"), telemetry.exported("route", "0"):
        pytest.fail("nothing runs unmeasured in silence")
