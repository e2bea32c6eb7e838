"""The HTTP/2 connection to APNs under everything that hung, repeated or stalled the stock library."""

import asyncio
import socket
from collections import Counter
from collections.abc import AsyncGenerator, Callable
from dataclasses import replace
from datetime import datetime, timedelta
from functools import partial
from pathlib import Path

import pytest

from connectors import apns
from connectors.contract import Accepted, ChannelFault, InvalidAddress, Outcome, Transient, Uncertain
from connectors.sandbox import apns as local_apns
from connectors.sandbox.faults import Fault
from connectors.sandbox.h2server import H2Server
from tests.contract.rigs import RIGS, Bench, bench, connector_options, until

APNS = next(rig for rig in RIGS if rig.name == "apns")


@pytest.fixture(scope="module")
def certs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Keys and certificates, made once."""
    return tmp_path_factory.mktemp("certs")


@pytest.fixture
async def running(certs: Path) -> AsyncGenerator[Bench]:
    """APNs with a connector of one second."""
    async with bench(APNS, certs) as ready:
        yield ready


def server(running: Bench) -> H2Server:
    """The local APNs, with what it counts."""
    assert isinstance(running.provider, H2Server)
    return running.provider


async def send_all(running: Bench, count: int, first: int = 0) -> list[Outcome]:
    """Send messages first..first+count-1 at once."""
    return list(await asyncio.gather(*(running.send(number) for number in range(first, first + count))))


def kinds(outcomes: list[Outcome]) -> Counter[str]:
    """How many of each kind."""
    return Counter(type(outcome).__name__ for outcome in outcomes)


@pytest.mark.parametrize("in_flight", [1, 90])
async def test_a_goaway_loses_and_repeats_nothing(running: Bench, in_flight: int) -> None:
    """A server that leaves answers what it has read; the rest goes to another connection, once."""
    running.fault(Fault(kind="delay", seconds=0.2, times=in_flight))
    running.fault(Fault(kind="goaway", times=1))
    assert kinds(await send_all(running, in_flight + 20)) == {"Accepted": in_flight + 20}
    ids = running.desk.recorder.accepted_ids()
    assert (len(ids), ids.total()) == (in_flight + 20, in_flight + 20)
    assert server(running).connections >= 2
    assert not server(running).protocol_errors


async def test_every_connection_may_leave_at_every_request(running: Bench) -> None:
    """Even when every tenth request ends its connection, everything arrives exactly once."""
    running.fault(Fault(kind="goaway", share=0.1))
    for first in range(0, 300, 60):
        assert set(kinds(await send_all(running, 60, first))) <= {"Accepted", "Transient"}
    assert running.desk.recorder.accepted_ids().total() == len(running.desk.recorder.accepted_ids())


@pytest.mark.parametrize("processed", [True, False])
async def test_a_reset_stream_ends_its_own_send_alone(running: Bench, processed: bool) -> None:
    """RST_STREAM leaves the truth open, REFUSED_STREAM says that the stream may be sent again."""
    running.fault(Fault(kind="reset", times=1, processed=processed))
    outcomes = await send_all(running, 10)
    expected = {"Uncertain": 1, "Accepted": 9} if processed else {"Accepted": 10}
    assert kinds(outcomes) == expected
    assert server(running).connections == 1


async def test_a_server_that_refuses_every_stream_is_given_up(running: Bench) -> None:
    """Unprocessed streams are written again, but not for ever."""
    running.fault(Fault(kind="reset"))
    outcome = await running.send()
    assert isinstance(outcome, Transient)
    assert running.requests == 3


async def test_a_cut_line_makes_what_is_in_flight_uncertain_and_no_more(running: Bench) -> None:
    """Whoever waits on a connection that breaks learns it at once, and nothing is repeated."""
    running.fault(Fault(kind="never"))
    sends = [asyncio.create_task(running.send(number)) for number in range(20)]
    await until(lambda: running.requests == 20)
    server(running).drop()
    assert kinds(list(await asyncio.gather(*sends))) == {"Uncertain": 20}
    running.desk.script.clear()
    assert isinstance(await running.send(20), Accepted)
    assert running.requests == 21


async def test_a_silent_line_is_not_used_again(running: Bench) -> None:
    """After a timeout without a single byte the line may be dead: the next send takes a new one."""
    running.fault(Fault(kind="never", times=1))
    assert isinstance(await running.send(0), Uncertain)
    assert isinstance(await running.send(1), Accepted)
    assert server(running).connections == 2


async def test_no_more_streams_than_the_server_allows(certs: Path) -> None:
    """With 5 streams at once and 2 connections, 200 sends take their turn and none is refused."""
    rig = replace(APNS, start=partial(local_apns.start, max_streams=5))
    async with bench(rig, certs, limit=5.0) as running:
        running.fault(Fault(kind="delay", seconds=0.02))
        assert kinds(await send_all(running, 200)) == {"Accepted": 200}
        assert (running.requests, server(running).connections) == (200, 2)
        assert not server(running).protocol_errors


async def test_waiting_for_a_stream_in_vain_is_transient(certs: Path) -> None:
    """Who has not had its turn when the time is over has sent nothing."""
    rig = replace(APNS, start=partial(local_apns.start, max_streams=1))
    async with bench(rig, certs) as running:
        running.fault(Fault(kind="never"))
        outcomes = await send_all(running, 10)
        assert kinds(outcomes) == {"Uncertain": 2, "Transient": 8}
        assert running.requests == 2


async def test_a_cancelled_place_in_the_line_is_passed_on(certs: Path) -> None:
    """Sends that are cancelled while they wait for a stream block nobody behind them."""
    rig = replace(APNS, start=partial(local_apns.start, max_streams=1))
    async with bench(rig, certs, limit=5.0) as running:
        running.fault(Fault(kind="delay", seconds=0.1))
        sends = [asyncio.create_task(running.send(number)) for number in range(12)]
        await until(lambda: running.requests == 2)
        for place in (2, 3, 5, 8):
            sends[place].cancel()
        outcomes = await asyncio.gather(*sends, return_exceptions=True)
        assert sum(isinstance(outcome, Accepted) for outcome in outcomes) == 8
        assert running.requests == 8


async def test_the_same_message_twice_at_once_gets_two_answers(running: Bench) -> None:
    """Answers go by stream, so one apns-id twice at once hangs nobody."""
    running.fault(Fault(kind="delay", seconds=0.1))
    assert kinds(list(await asyncio.gather(running.send(), running.send()))) == {"Accepted": 2}


async def test_one_provider_token_over_reconnects(running: Bench) -> None:
    """Apple refuses senders that change their token often: connections share one."""
    for number in range(8):
        await running.send(number)  # uncertain when it comes before the news of the cut line
        server(running).drop()
    assert server(running).connections >= 3
    assert len({row.identity["authorization"] for row in running.desk.recorder.rows()}) == 1


@pytest.mark.parametrize(
    ("ahead", "expected"),
    [
        (timedelta(minutes=-61), ChannelFault),  # our clock is an hour slow: no new token will help
        (timedelta(minutes=10), ChannelFault),  # our clock is fast: Apple calls the token invalid
        (timedelta(minutes=3), Accepted),
        (timedelta(minutes=-50), Accepted),
    ],
)
async def test_a_wrong_clock_is_a_fault_of_the_channel(
    running: Bench, ahead: timedelta, expected: type[Outcome]
) -> None:
    """A token that Apple refuses although it is new burns no message: the channel pauses."""
    clock = running.desk.clock
    connector = with_clock(running, lambda: clock() + ahead)
    outcome = await connector.send(running.message())
    await connector.aclose()
    assert isinstance(outcome, expected)


async def test_an_expired_token_costs_one_repeat_by_the_pipeline(running: Bench) -> None:
    """The refused send is Transient, and the next one carries a new token."""
    running.fault(Fault(kind="status", status=403, reason="ExpiredProviderToken", times=1))
    clock, ahead = running.desk.clock, [timedelta(minutes=-30)]
    connector = with_clock(running, lambda: clock() + ahead[0])
    await connector.send(running.message(0))
    ahead[0] = timedelta()
    running.fault(Fault(kind="status", status=403, reason="ExpiredProviderToken", times=1))
    outcomes = [await connector.send(running.message(number)) for number in (1, 2)]
    await connector.aclose()
    assert [type(outcome) for outcome in outcomes] == [Transient, Accepted]
    assert len({row.identity["authorization"] for row in running.desk.recorder.rows()}) == 2


def with_clock(running: Bench, clock: Callable[[], datetime]) -> apns.Apns:
    """A connector to the same server that lives in another time."""
    options = connector_options(APNS, running.provider)
    return apns.create(options, clock=clock)


@pytest.mark.parametrize(
    ("fault", "expected"),
    [
        (Fault(kind="status", status=410, body='{"reason":"Unregistered","timestamp":1000}'), "Permanent"),
        (
            Fault(kind="status", status=410, body='{"reason":"Unregistered","timestamp":"x"}'),
            "InvalidAddress",
        ),
        (Fault(kind="status", status=503, body=""), "Transient"),
        (Fault(kind="status", status=503, body="[1]"), "Transient"),
        (Fault(kind="status", status=400, body="\u00ff{"), "Permanent"),
        (Fault(kind="status", status=200, body="<html>"), "Accepted"),
        (Fault(kind="status", status=302, body=""), "Uncertain"),
    ],
)
async def test_odd_answers_hang_nobody(running: Bench, fault: Fault, expected: str) -> None:
    """Empty, broken or strange bodies fall back on the status, and the connection lives on."""
    running.fault(replace(fault, times=1))
    message = replace(running.message(), registered_at=running.desk.clock())
    assert type(await running.connector.send(message)).__name__ == expected
    assert isinstance(await running.send(1), Accepted)
    assert server(running).connections == 1


@pytest.mark.parametrize(
    ("option", "value", "expected"),
    [
        ("topic", "org.example.other", InvalidAddress),  # DeviceTokenNotForTopic
        ("key_id", "ANOTHERKEY", ChannelFault),
        ("team_id", "ANOTHERTEA", ChannelFault),
        ("ca_file", "", ChannelFault),  # the machine's own authorities do not know the sandbox
        ("host", "localhost", Accepted),
    ],
)
async def test_each_option_matters(running: Bench, option: str, value: str, expected: type[Outcome]) -> None:
    """A wrong credential or topic is refused by the server that checks it."""
    connector = apns.create(connector_options(APNS, running.provider) | {option: value})
    outcome = await connector.send(running.message())
    await connector.aclose()
    assert isinstance(outcome, expected)


async def test_a_port_that_accepts_and_says_nothing_is_transient(running: Bench) -> None:
    """A TLS handshake that never ends is given up in time, with nothing sent."""
    with socket.create_server(("127.0.0.1", 0)) as mute:
        port = str(mute.getsockname()[1])
        connector = apns.create(connector_options(APNS, running.provider, limit=0.3) | {"port": port})
        outcome = await connector.send(running.message())
        await connector.aclose()
    assert isinstance(outcome, Transient)


async def test_closing_ends_who_still_waits_for_a_connection(running: Bench) -> None:
    """`aclose` with a connection in the making cancels it, and the sends say that nothing was sent."""
    sending = asyncio.create_task(running.send())
    await asyncio.sleep(0)
    await running.connector.aclose()
    assert isinstance(await sending, Transient | Accepted)
    assert isinstance(await running.send(1), Transient)
    assert running.requests <= 1
