"""The conformance suite: what every connector holds against a provider over its real protocol, case by case.

`pytest -m conformance` runs it with `test_connectors_load.py`, and says at the end how many cases each ran.
"""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest
import pytest_asyncio

from connectors.contract import (
    Accepted,
    BadOptions,
    ChannelFault,
    Connector,
    InvalidAddress,
    Outcome,
    Permanent,
    Throttled,
    Transient,
    Uncertain,
)
from connectors.sandbox.faults import Fault
from tests.contract.rigs import PATIENCE, TIMEOUT, Bench, Rig, bench, connector_options, until

pytestmark = pytest.mark.conformance
MANY = 40  # sends at once


@pytest_asyncio.fixture
async def running(rig: Rig, certs: Path) -> AsyncGenerator[Bench]:
    """A provider and a patient connector that points at it, closed without a task left over."""
    async with _tidy(), bench(rig, certs, limit=PATIENCE) as ready:
        yield ready


@pytest_asyncio.fixture
async def hurried(rig: Rig, certs: Path) -> AsyncGenerator[Bench]:
    """The same with a connector that gives its provider one second."""
    async with _tidy(), bench(rig, certs, limit=TIMEOUT) as ready:
        yield ready


@asynccontextmanager
async def _tidy() -> AsyncGenerator[None]:
    before = asyncio.all_tasks()
    yield
    left = asyncio.all_tasks() - before - {asyncio.current_task()}
    assert not left, "aclose left a task behind"


async def timed(sending: Bench, number: int = 0) -> Outcome:
    """Send, and hold the connector to its own timeout (and some seconds for a busy machine)."""
    async with asyncio.timeout(TIMEOUT + 4):
        return await sending.send(number)


async def test_an_ordinary_message_is_accepted_with_its_words(running: Bench) -> None:
    """The provider receives the words, the address and the delivery id that were sent."""
    outcome = await running.send()
    (row,) = running.desk.recorder.rows()
    message = running.message()
    assert isinstance(outcome, Accepted)
    assert (row.accepted, row.delivery_id, row.provider) == (True, message.delivery_id, running.rig.name)
    assert message.content.text in row.content["text"]


async def test_a_connector_is_a_connector(running: Bench) -> None:
    """It has the name by which the pipeline knows it."""
    connector: Connector = running.connector
    assert connector.name == running.rig.name


@pytest.mark.parametrize("processed", [True, False])
async def test_a_hang_up_after_reading_is_uncertain_and_one_request(running: Bench, processed: bool) -> None:
    """When the provider reads the request and closes, nobody knows, and nothing is sent again."""
    running.fault(Fault(kind="hang_up", processed=processed))
    assert isinstance(await running.send(), Uncertain)
    assert running.requests == 1


async def test_silence_is_uncertain_within_the_timeout_and_one_request(hurried: Bench) -> None:
    """A provider that never answers costs one request and no more than the timeout."""
    hurried.fault(Fault(kind="never"))
    assert isinstance(await timed(hurried), Uncertain)
    assert hurried.requests == 1


async def test_a_late_answer_is_uncertain_and_harms_nobody_later(hurried: Bench) -> None:
    """An answer after the timeout is not taken for the answer to the next message."""
    hurried.fault(Fault(kind="delay", seconds=TIMEOUT + 0.2, times=1))
    assert isinstance(await timed(hurried), Uncertain)
    hurried.fault(replace(hurried.rig.busy, times=1))
    later = [await timed(hurried, number) for number in (1, 2)]
    assert [type(outcome) for outcome in later] == [Transient, Accepted]
    assert hurried.requests == 3


async def test_a_throttled_send_is_one_request_and_carries_the_wait(running: Bench) -> None:
    """The connector does not wait and repeat by itself; it hands Retry-After to the pipeline."""
    running.fault(running.rig.throttled)
    outcome = await running.send()
    wait = running.rig.retry_after
    assert isinstance(outcome, Throttled)
    assert outcome.retry_after == (None if wait is None else timedelta(seconds=wait))
    assert running.requests == 1


async def test_a_provider_in_trouble_is_transient_and_one_request(running: Bench) -> None:
    """A server error means: later, by the pipeline."""
    running.fault(running.rig.busy)
    assert isinstance(await running.send(), Transient)
    assert running.requests == 1


async def test_garbage_is_no_verdict_on_the_message(running: Bench) -> None:
    """An answer that nobody can read burns no message and no address, and is one request."""
    running.fault(running.rig.garbage)
    assert isinstance(await running.send(), Transient | Uncertain)
    assert running.requests == 1


async def test_a_dead_address_is_named(running: Bench) -> None:
    """The provider's own word for a dead address becomes InvalidAddress."""
    running.fault(Fault(kind="dead", address=await running.seen(0)))
    assert isinstance(await running.send(), InvalidAddress)
    assert isinstance(await running.send(1), Accepted)


async def test_a_malformed_address_is_refused_without_an_exception(running: Bench) -> None:
    """An address that is none ends its own message, and nothing else."""
    message = replace(running.message(), address=running.rig.malformed)
    assert isinstance(await running.connector.send(message), InvalidAddress | Permanent)
    assert isinstance(await running.send(1), Accepted)


async def test_a_cancel_from_outside_harms_nobody(running: Bench) -> None:
    """A send that is cancelled in the middle leaves every other with its own answer."""
    running.fault(Fault(kind="delay", seconds=0.3))
    sends = [asyncio.create_task(running.send(number)) for number in range(MANY)]
    await until(lambda: running.requests >= 3)
    for cancelled in sends[:2]:
        cancelled.cancel()
    outcomes = await asyncio.gather(*sends, return_exceptions=True)
    assert all(isinstance(outcome, asyncio.CancelledError) for outcome in outcomes[:2])
    assert all(isinstance(outcome, Accepted) for outcome in outcomes[2:])
    running.desk.script.clear()
    assert isinstance(await running.send(MANY), Accepted)
    assert running.desk.recorder.accepted_ids().total() <= MANY + 1


async def test_closing_lets_what_is_in_flight_finish(running: Bench) -> None:
    """`aclose` waits for the answers that are on their way."""
    running.fault(Fault(kind="delay", seconds=0.3))
    sends = [asyncio.create_task(running.send(number)) for number in range(5)]
    await until(lambda: running.requests == 5)
    await running.connector.aclose()
    assert all(isinstance(outcome, Accepted) for outcome in await asyncio.gather(*sends))


async def test_a_provider_that_is_away_is_transient(running: Bench) -> None:
    """Nothing was written, so the message may safely be tried later."""
    await running.provider.aclose()
    assert isinstance(await running.send(), Transient)
    assert running.requests == 0


async def test_no_outcome_speaks_of_the_address(running: Bench) -> None:
    """Reasons go into logs and records, so no reason holds an address."""
    message = running.message()
    reasons: list[str] = []
    for fault in (running.rig.busy, running.rig.throttled, Fault(kind="dead"), Fault(kind="hang_up")):
        running.desk.script.clear()
        running.fault(fault)
        outcome = await running.connector.send(message)
        assert not isinstance(outcome, Accepted | ChannelFault)
        reasons.append(outcome.reason)
    assert not [reason for reason in reasons if message.address in reason]


@pytest.mark.parametrize("wrong", [{"timeout": "soon"}, {"time_out": "3"}])
async def test_wrong_options_are_named(running: Bench, wrong: dict[str, str]) -> None:
    """A missing, malformed or unknown option stops the start and is named."""
    with pytest.raises(BadOptions, match=running.rig.name):
        running.rig.create({})
    with pytest.raises(BadOptions, match=next(iter(wrong))):
        running.rig.create(connector_options(running.rig, running.provider) | wrong)
