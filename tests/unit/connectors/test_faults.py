"""The fault script: who meets what, and what the recorder keeps."""

from datetime import UTC, datetime
from pathlib import Path
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from connectors.sandbox.desk import Answer, Call, received
from connectors.sandbox.faults import BadFaults, Fault, Kind, Script, from_json, to_json
from connectors.sandbox.record import Received, Recorder

KINDS: tuple[Kind, ...] = ("delay", "status", "hang_up", "never", "dead", "reset", "goaway")
AT = datetime(2026, 11, 23, 12, tzinfo=UTC)

seconds = st.floats(min_value=0, max_value=1e6)
faults = st.builds(
    Fault,
    kind=st.sampled_from(KINDS),
    provider=st.none() | st.sampled_from(["apns", "fcm"]),
    address=st.none() | st.sampled_from(["a*", "ab", "*", ""]),
    times=st.none() | st.integers(1, 5),
    each=st.none() | st.integers(1, 3),
    share=st.floats(min_value=0, max_value=1),
    after=seconds,
    until=st.none() | st.floats(min_value=0.1, max_value=1e6),
    seconds=seconds,
    status=st.integers(100, 599),
    reason=st.text(max_size=5),
    body=st.none() | st.text(max_size=5),
    retry_after=st.none() | st.text(max_size=5),
    processed=st.booleans(),
)
requests = st.tuples(
    st.sampled_from(["apns", "fcm"]), st.sampled_from(["", "a", "ab", "b"]), st.uuids().map(str), seconds
)


def meet(
    script: Script, provider: str = "apns", address: str = "a", delivery: str = "d", now: float = 0
) -> Fault | None:
    """Ask a script about one request."""
    return script.meet(provider=provider, address=address, delivery_id=delivery, now=now)


@given(st.lists(faults, max_size=4))
def test_a_script_survives_json(script: list[Fault]) -> None:
    """What is written down as JSON comes back as it was."""
    assert from_json(to_json(script)) == script


@given(st.lists(faults, max_size=4), st.lists(requests, max_size=30))
def test_a_script_is_a_function_of_its_history(
    script: list[Fault], history: list[tuple[str, str, str, float]]
) -> None:
    """The same faults and the same requests in the same order meet alike: there is no chance in it."""
    one, two = Script(script), Script(script)
    assert [meet(one, *request) for request in history] == [meet(two, *request) for request in history]


@given(st.lists(faults, max_size=4), st.lists(requests, max_size=30))
def test_a_request_meets_only_what_fits_and_only_so_often(
    script: list[Fault], history: list[tuple[str, str, str, float]]
) -> None:
    """Provider, address, time, and the limits of use are kept, whatever the mix."""
    play = Script(script)
    met = [(request, fault) for request in history if (fault := meet(play, *request)) is not None]
    for (provider, address, delivery, now), fault in met:
        assert fault.fits(provider, address, delivery, now)
    for fault in script:
        uses = [request for request, used in met if used is fault]
        assert fault.times is None or len(uses) <= fault.times
        for delivery in {request[2] for request in uses}:
            assert fault.each is None or sum(request[2] == delivery for request in uses) <= fault.each


def test_a_share_is_about_that_share() -> None:
    """A tenth of the deliveries means about a tenth, always the same ones."""
    deliveries = [str(UUID(int=number)) for number in range(2000)]
    script = Script([Fault(kind="hang_up", share=0.1)])
    hit = [delivery for delivery in deliveries if meet(script, delivery=delivery)]
    assert 160 <= len(hit) <= 240  # three standard deviations
    assert hit == [delivery for delivery in deliveries if meet(script, delivery=delivery)]


def test_a_dead_share_is_of_addresses() -> None:
    """An address that is dead is dead for every delivery."""
    script = Script([Fault(kind="dead", share=0.5)])
    verdicts = {
        address: {meet(script, address=address, delivery=str(number)) is None for number in range(20)}
        for address in map(str, range(50))
    }
    assert all(len(verdict) == 1 for verdict in verdicts.values())
    assert {True, False} == set.union(*verdicts.values())


@pytest.mark.parametrize(
    ("pattern", "address", "fits"),
    [
        ("ab", "ab", True),
        ("ab", "abc", False),
        ("ab*", "abc", True),
        ("ab*", "ab", True),
        ("ab*", "a", False),
        ("*", "", True),
        ("", "a", False),
    ],
)
def test_addresses_are_exact_or_a_prefix(pattern: str, address: str, fits: bool) -> None:
    """A star at the end, and only there, makes a prefix."""
    assert Fault(kind="delay", address=pattern).fits("apns", address, "d", 0.0) is fits


@pytest.mark.parametrize(
    ("now", "met"), [(99.9, False), (100.0, False), (110.0, True), (119.9, True), (120.0, False)]
)
def test_time_counts_from_activation(now: float, met: bool) -> None:
    """`after` and `until` are seconds since the fault was put in force, the end not included."""
    script = Script([Fault(kind="never", after=10, until=20)], now=100.0)
    assert (meet(script, now=now) is not None) is met


def test_the_first_fitting_fault_wins_and_gives_way_when_used_up() -> None:
    """A used-up fault lets the next one have its turn; clearing ends all."""
    script = Script([Fault(kind="never", times=1), Fault(kind="status", each=1)])
    met = [meet(script), meet(script), meet(script), meet(script, delivery="e")]
    assert [fault and fault.kind for fault in met] == ["never", "status", None, "status"]
    assert len(script.faults()) == 2
    script.clear()
    assert meet(script) is None


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("{", "JSON"),
        ('{"kind": "never"}', "the whole"),
        ("[{}]", "0.kind"),
        ('[{"kind": "ded"}]', "hang_up"),
        ('[{"kind": "dead", "shares": 1}]', "0.shares"),
        ('[{"kind": "dead", "share": 1.5}]', "0.share"),
        ('[{"kind": "dead"}, {"kind": "status", "status": "429"}]', "1.status"),
        ('[{"kind": "dead", "times": 0}]', "0.times"),
    ],
)
def test_bad_faults_are_named(text: str, named: str) -> None:
    """A mistake in a script is refused with its place."""
    with pytest.raises(BadFaults, match=named):
        from_json(text)


@pytest.mark.parametrize(
    ("fault", "accepted", "status"),
    [
        (None, True, "200"),
        (Fault(kind="delay"), True, "200"),
        (Fault(kind="goaway"), True, "200"),
        (Fault(kind="hang_up"), False, "hang_up"),
        (Fault(kind="hang_up", processed=True), True, "hang_up"),
        (Fault(kind="never"), False, "never"),
        (Fault(kind="never", processed=True), True, "never"),
        (Fault(kind="reset", processed=True), True, "reset"),
        (Fault(kind="status"), False, "200"),
        (Fault(kind="status", processed=True), True, "200"),
        (Fault(kind="dead", processed=True), False, "200"),
    ],
)
def test_a_row_says_whether_the_device_got_it(fault: Fault | None, accepted: bool, status: str) -> None:
    """A message is accepted when the provider took it, whatever the client was told."""
    call = Call(provider="apns", delivery_id="d", address="a")
    row = received(call, Answer(status=200, accepted=True), fault, AT)
    assert (row.accepted, row.status) == (accepted, status)
    refused = received(call, Answer(status=400, reason="Bad"), None, AT)
    assert (refused.accepted, refused.status) == (False, "400 Bad")


def row(
    delivery: str = "d", *, provider: str = "apns", accepted: bool = True, status: str = "200"
) -> Received:
    """A row."""
    return Received(
        provider=provider,
        delivery_id=delivery,
        address="a\u2028b",
        at=AT,
        accepted=accepted,
        status=status,
        content={"text": "zwei\nZeilen ✈"},
    )


def test_repeats_of_accepted_deliveries_are_counted() -> None:
    """A phone that would ring twice shows in the summary."""
    recorder = Recorder()
    for one in (row(), row(), row("e"), row("f", accepted=False, status="503"), row(provider="fcm")):
        recorder.add(one)
    assert recorder.accepted_ids("apns") == {"d": 2, "e": 1}
    assert recorder.summary() == {
        "apns": {"received": 4, "accepted": 3, "repeats": 1, "statuses": {"200": 3, "503": 1}},
        "fcm": {"received": 1, "accepted": 1, "repeats": 0, "statuses": {"200": 1}},
    }


def test_rows_outlive_the_process(tmp_path: Path) -> None:
    """A recorder on the same file knows the earlier rows; a line cut off by a kill is dropped."""
    file = tmp_path / "received.jsonl"
    first = Recorder(file)
    first.add(row("d"))
    first.add(row("e"))
    first.close()
    with file.open("a") as cut:
        cut.write('{"provider": "ap')
    second = Recorder(file)
    second.add(row("f"))
    second.close()
    third = Recorder(file)
    third.close()
    assert third.rows() == (row("d"), row("e"), row("f"))
