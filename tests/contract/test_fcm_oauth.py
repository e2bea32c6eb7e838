"""FCM against a Google that checks who posts: the access token, its loss, and both doors in trouble."""

import asyncio
import json
from collections.abc import AsyncGenerator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

from connectors import fcm
from connectors.contract import (
    Accepted,
    ChannelFault,
    Content,
    InvalidAddress,
    Outcome,
    Permanent,
    Throttled,
    Transient,
)
from connectors.sandbox.faults import Fault
from tests.contract.rigs import RIGS, Bench, bench, connector_options

FCM = next(rig for rig in RIGS if rig.name == "fcm")


@pytest.fixture(scope="module")
def certs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Keys and certificates, made once."""
    return tmp_path_factory.mktemp("certs")


@pytest.fixture
async def running(certs: Path) -> AsyncGenerator[Bench]:
    """FCM with a connector of one second."""
    async with bench(FCM, certs) as ready:
        yield ready


def oauth(running: Bench, fault: Fault) -> None:
    """Put a fault of the token endpoint in force."""
    assert fault.provider == "fcm-oauth"
    running.desk.script.extend([fault], running.desk.steady())


def tokens_used(running: Bench) -> int:
    """How many different access tokens the provider has seen."""
    return len({row.identity.get("authorization") for row in running.desk.recorder.rows()})


async def test_a_burst_fetches_one_token(running: Bench) -> None:
    """A hundred sends at once on a new connector share one access token."""
    outcomes = await asyncio.gather(*(running.send(number) for number in range(100)))
    assert all(isinstance(outcome, Accepted) for outcome in outcomes)
    assert (running.requests, tokens_used(running)) == (100, 1)


async def test_an_expired_token_costs_one_transient_send(running: Bench) -> None:
    """A 401 is handed to the pipeline; the next send carries a new token. Never two requests for one."""
    clock, ahead = running.desk.clock, [timedelta(minutes=-30)]
    connector = fcm.create(connector_options(FCM, running.provider), clock=lambda: clock() + ahead[0])
    outcomes = [await connector.send(running.message(0))]
    ahead[0] = timedelta()
    running.fault(Fault(kind="status", status=401, times=1))
    outcomes += [await connector.send(running.message(number)) for number in (1, 2)]
    await connector.aclose()
    assert [type(outcome) for outcome in outcomes] == [Accepted, Transient, Accepted]
    assert (running.requests, tokens_used(running)) == (3, 2)


async def test_a_new_token_that_is_refused_pauses_the_channel(running: Bench) -> None:
    """Right after a fetch a 401 is no matter of age."""
    running.fault(Fault(kind="status", status=401))
    assert isinstance(await running.send(), ChannelFault)
    assert running.requests == 1


@pytest.mark.parametrize(
    ("fault", "expected"),
    [
        (Fault(kind="status", provider="fcm-oauth", status=400, reason="invalid_grant"), ChannelFault),
        (Fault(kind="status", provider="fcm-oauth", status=503, reason="server_error"), Transient),
        (Fault(kind="hang_up", provider="fcm-oauth"), Transient),
        (Fault(kind="never", provider="fcm-oauth"), Transient),
        (Fault(kind="delay", seconds=0.3, provider="fcm-oauth"), Accepted),
    ],
)
async def test_without_a_token_nothing_is_sent(running: Bench, fault: Fault, expected: type[Outcome]) -> None:
    """A token endpoint in trouble is no verdict on any message, and costs no more than the timeout."""
    oauth(running, fault)
    async with asyncio.timeout(1.5):
        outcome = await running.send()
    assert isinstance(outcome, expected)
    assert running.requests == (1 if expected is Accepted else 0)


def with_key(account: Path, key: Path, directory: Path) -> Path:
    """The same service account with another key."""
    file = directory / "account.json"
    file.write_text(json.dumps(json.loads(account.read_text()) | {"private_key": key.read_text()}))
    return file


async def test_a_stolen_key_is_a_fault_of_the_channel(running: Bench, tmp_path: Path) -> None:
    """An assertion signed with another key is refused by Google, and names the option to change."""
    options = connector_options(FCM, running.provider)
    file = with_key(Path(options["service_account_path"]), running.desk.certs.vonage_key, tmp_path)
    connector = fcm.create(options | {"service_account_path": str(file)})
    outcome = await connector.send(running.message())
    await connector.aclose()
    assert isinstance(outcome, ChannelFault)
    assert "service_account_path" in outcome.reason


@pytest.mark.parametrize(
    ("option", "value", "expected"),
    [
        ("project_id", "another-project", ChannelFault),
        ("ca_file", "", Transient | ChannelFault),
        ("endpoint", "https://127.0.0.1:9", Transient),
    ],
)
async def test_each_option_matters(running: Bench, option: str, value: str, expected: type[Outcome]) -> None:
    """A wrong project, authority or address is told apart from a bad message."""
    connector = fcm.create(connector_options(FCM, running.provider) | {option: value})
    outcome = await connector.send(running.message())
    await connector.aclose()
    assert isinstance(outcome, expected)


@pytest.mark.parametrize(
    ("fault", "expected"),
    [
        (Fault(kind="status", status=403, reason="SENDER_ID_MISMATCH"), InvalidAddress),
        (Fault(kind="status", status=404, body="<html>"), ChannelFault),
        (Fault(kind="status", status=400), Permanent),
        (Fault(kind="status", status=401, reason="THIRD_PARTY_AUTH_ERROR"), ChannelFault),
        (Fault(kind="status", status=307), ChannelFault),
        (Fault(kind="status", status=429, retry_after="Mon, 23 Nov 2026 00:00:00 GMT"), Throttled),
        (Fault(kind="status", status=429, retry_after="soon"), Throttled),
        (Fault(kind="status", status=503, retry_after="-1"), Transient),
    ],
)
async def test_answers_over_the_wire(running: Bench, fault: Fault, expected: type[Outcome]) -> None:
    """Each refusal arrives as its outcome, after one request, and the next message goes out."""
    await running.send(0)
    running.fault(fault)
    assert isinstance(await running.send(1), expected)
    running.desk.script.clear()
    assert isinstance(await running.send(2), Accepted)
    assert running.requests == 3


async def test_too_large_a_message_is_never_sent(running: Bench) -> None:
    """Four kilobytes are the limit, and no request is spent on finding out."""
    message = replace(running.message(), content=Content(title="x" * 5000))
    assert isinstance(await running.connector.send(message), Permanent)
    assert running.requests == 0
