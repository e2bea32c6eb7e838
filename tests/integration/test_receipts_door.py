"""The stage `receipts` as a process: from a provider's signed callback to the topic."""

import json
import os
import secrets
import signal
import subprocess
import sys
from collections.abc import Generator
from contextlib import contextmanager

import aiohttp
import pytest

from connectors.sandbox.vonage import receipt
from pipeline.adapters.postgres.log import PostgresLog
from pipeline.adapters.wire.codec import Wire
from pipeline.adapters.wire.ids import LockFile
from pipeline.model.engagement import Engagement
from pipeline.model.topics import ENGAGEMENT
from tests.support.database import migrated
from tests.support.log import outcome
from tests.support.topics import create_topics, read_tenant

pytestmark = pytest.mark.integration
COMMAND = (sys.executable, "-m", "pipeline.cli.main", "run", "receipts")


@contextmanager
def listening(environment: dict[str, str]) -> Generator[int]:
    """The stage, and the port that it says."""
    process = subprocess.Popen(COMMAND, env={**os.environ, **environment}, stderr=subprocess.PIPE)
    try:
        assert process.stderr is not None
        logged = (json.loads(line) for line in process.stderr if line.startswith(b"{"))
        yield next(line["port"] for line in logged if line["event"] == "stage.started")
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) == 0
    finally:
        process.kill()
        process.wait(60)
        if process.stderr is not None:
            process.stderr.close()


async def test_from_the_callback_to_the_topic(kafka: str, postgres: str) -> None:
    """Started by its command, it takes a signed receipt, writes it, and leaves with 0."""
    create_topics(kafka)
    tenant = f"t{secrets.token_hex(6)}"
    async with migrated(postgres) as pool:
        await PostgresLog(pool).write([], [outcome(f"{tenant}-1", tenant=tenant)])
    form = receipt({"to": "15005550006", "from": "Everpost", "client-ref": f"{tenant}-1"}, 1_800_000_000)
    environment = {
        "EVERPOST_BOOTSTRAP_SERVERS": kafka,
        "EVERPOST_POSTGRES_DSN": postgres,
        "EVERPOST_RECEIPTS": "127.0.0.1:0",
        "EVERPOST_CONNECTOR_VONAGE_SIGNATURE_SECRET": "sandbox-signature",
    }
    with listening(environment) as port:
        url = f"http://127.0.0.1:{port}/receipts/vonage"
        limit = aiohttp.ClientTimeout(total=60)
        async with aiohttp.ClientSession(timeout=limit) as session, session.post(url, data=form) as answer:
            assert answer.status == 204
    (found,) = read_tenant(kafka, ENGAGEMENT, tenant)
    value = found.value()
    assert isinstance(value, bytes)
    told = Wire(LockFile()).decode(Engagement, value)
    assert (told.delivery_id, told.kind, told.facts["fate"]) == (f"{tenant}-1", "receipt", "delivered")
