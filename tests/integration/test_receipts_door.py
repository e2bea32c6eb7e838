"""The stage `receipts` as a process: from a signed callback, or a mail's link, to the topic."""

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
from cryptography.fernet import Fernet

from connectors.sandbox.vonage import receipt
from pipeline.adapters.links import Links
from pipeline.adapters.postgres.log import PostgresLog
from pipeline.adapters.postgres.profiles import PostgresProfiles, save_profiles
from pipeline.adapters.wire.codec import Wire
from pipeline.adapters.wire.ids import LockFile
from pipeline.model.engagement import Engagement
from pipeline.model.topics import ENGAGEMENT
from pipeline.model.unsubscribe import Subscription
from tests.support.database import migrated
from tests.support.log import outcome
from tests.support.make import profile
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
    told = _told(found.value())
    assert (told.delivery_id, told.kind, told.facts["fate"]) == (f"{tenant}-1", "receipt", "delivered")


async def test_one_click_holds_from_the_next_decision_on(kafka: str, postgres: str) -> None:
    """A POST to a mail's link: the preference is off, analysts read of it, and the address stays in use."""
    create_topics(kafka)
    tenant, key = f"t{secrets.token_hex(6)}", Fernet.generate_key().decode()
    user = profile(f"{tenant}-1", ("email",), tenant=tenant)
    environment = {
        "EVERPOST_BOOTSTRAP_SERVERS": kafka,
        "EVERPOST_POSTGRES_DSN": postgres,
        "EVERPOST_RECEIPTS": "127.0.0.1:0",
        "EVERPOST_UNSUBSCRIBE_URL": "https://mail.example.com/u",
        "EVERPOST_UNSUBSCRIBE_KEYS": key,
    }
    links = Links(environment["EVERPOST_UNSUBSCRIBE_URL"], [key])
    made = [
        links(Subscription(tenant, name, "offers", "email", f"{tenant}-{name}"))
        for name in (user.user_id, "gone")
    ]
    async with migrated(postgres) as pool:
        async with pool.acquire() as connection:
            await save_profiles(connection, [user])
        with listening(environment) as port:
            limit = aiohttp.ClientTimeout(total=60)
            async with aiohttp.ClientSession(timeout=limit) as session:
                for link in made:
                    url = f"http://127.0.0.1:{port}/u/{link.rpartition('/')[2]}"
                    async with session.post(url, data="List-Unsubscribe=One-Click") as answer:
                        assert answer.status == 200
        told = [_told(one.value()) for one in read_tenant(kafka, ENGAGEMENT, tenant)]
        await PostgresLog(pool).write([], [], told)
        (found,) = (await PostgresProfiles(pool).fetch([(tenant, user.user_id)])).values()
    assert found.preferences == {("offers", "email"): False}
    assert [one.suppressed for one in found.addresses] == [""]
    assert {(one.user_id, one.kind) for one in told} == {
        (user.user_id, "unsubscribe"),
        ("gone", "unsubscribe"),
    }


def _told(value: object) -> Engagement:
    assert isinstance(value, bytes)
    return Wire(LockFile()).decode(Engagement, value)
