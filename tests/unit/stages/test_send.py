"""The send stage, driven without a broker: deliveries in; requests, outcomes, retries and offsets out."""

import asyncio
from datetime import timedelta

import pytest

from connectors.contract import ChannelFault, InvalidAddress, Permanent, Throttled, Transient, Uncertain
from pipeline.model.delivery import Delivery
from pipeline.model.errors import ConfigurationError
from pipeline.model.record import Incoming, Outgoing
from pipeline.model.topics import DEAD, OUTCOMES
from pipeline.stages.send.step import rooms, run
from tests.support.make import NOW, profile
from tests.support.sending import (
    WIRE,
    MemoryProfiles,
    OneTemplate,
    Rig,
    ScriptedConnector,
    delivery,
    eventually,
    record,
)


async def test_a_delivery_becomes_one_request_and_one_outcome() -> None:
    """The rendered words go out once, and the outcome says where they came from."""
    rig = Rig(ScriptedConnector())
    rig.kafka.write(record(delivery(expires_at=NOW + timedelta(hours=1), collapse_key="c")))
    async with rig.running():
        await eventually(lambda: rig.committed() == 1)
    (message,) = rig.connector.sent
    assert (message.content.title, message.content.text) == ("UA 1018", "UA 1018")
    assert (message.address, message.collapse_key) == ("at-decision", "c")
    assert message.time_to_live == timedelta(hours=1)
    (told,) = rig.told()
    assert (told.outcome, told.state, told.provider, told.provider_id) == (
        "delivered",
        "delivered",
        "scripted",
        "p-e-1",
    )
    assert (told.source_topic, told.source_offset) == ("notification.deliver.apns.normal", 0)
    assert rig.profiles.queries == []  # the router has just asked


async def test_offsets_wait_for_the_slowest() -> None:
    """Later records are sent and written down while the first still waits; nothing is committed past it."""
    rig = Rig(ScriptedConnector())
    rig.connector.held["e-0"] = asyncio.Event()
    rig.kafka.write(*(record(delivery(f"e-{n}")) for n in range(5)))
    async with rig.running():
        await eventually(lambda: len(rig.told()) == 4)
        assert rig.committed() == 0
        rig.connector.held["e-0"].set()
        await eventually(lambda: rig.committed() == 5)
    assert {told.event_id for told in rig.told()} == {f"e-{n}" for n in range(5)}


async def test_a_killed_sender_repeats_only_what_was_not_durable() -> None:
    """After a kill its successor sends what was in flight, with the same identity, and nothing else."""
    rig = Rig(ScriptedConnector())
    rig.connector.held["e-3"] = asyncio.Event()
    rig.kafka.write(*(record(delivery(f"e-{n}")) for n in range(5)))
    killed = asyncio.create_task(run(rig.sender(), asyncio.Event()))
    place = ("notification.deliver.apns.normal", 0)
    await eventually(lambda: rig.kafka.done.get(place) == (3, 0b10))  # e-4 is done, beyond e-3
    killed.cancel()
    with pytest.raises(asyncio.CancelledError):
        await killed
    before = [message.delivery_id for message in rig.connector.sent]
    rig.connector.held.clear()
    rig.consumer.assign()
    async with rig.running():
        await eventually(lambda: rig.committed() == 5)
    again = [message.delivery_id for message in rig.connector.sent[len(before) :]]
    assert again == [delivery("e-3").delivery_id]
    assert len(before) == 5


async def test_a_retry_is_numbered_and_pinned() -> None:
    """Transient goes to the tier as the next attempt, with its first moment and everything else kept."""
    rig = Rig(ScriptedConnector(Transient(reason="busy", code="503"), Throttled(reason="slow")))
    rig.kafka.write(record(delivery("e-1")), record(delivery("e-2")))
    async with rig.running():
        await eventually(lambda: rig.committed() == 2)
    retries = [WIRE.decode(Delivery, one.value) for one in rig.kafka.read("notification.retry.10s")]
    assert [(one.event_id, one.attempt) for one in retries] == [("e-1", 2), ("e-2", 2)]
    assert retries[0].first_attempt_at == NOW
    assert retries[0].not_before == NOW + timedelta(seconds=10)
    assert retries[0].delivery_id == delivery("e-1").delivery_id
    assert [(told.outcome, told.state, told.tier) for told in rig.told()] == [
        ("transient", "in_flight", "10s"),
        ("throttled", "in_flight", "10s"),
    ]


@pytest.mark.parametrize(
    ("answer", "disposition"),
    [
        (Permanent(reason="too long", code="413"), b"permanent"),
        (InvalidAddress(reason="unregistered", code="410"), b"invalid_address"),
    ],
)
async def test_the_dead_keep_what_they_were(answer: Permanent | InvalidAddress, disposition: bytes) -> None:
    """A dead letter has the record's own bytes, its origin and its reason."""
    rig = Rig(ScriptedConnector(answer))
    source = record(delivery(attempt=4))
    rig.profiles = MemoryProfiles(profile())
    rig.kafka.write(source)
    async with rig.running():
        await eventually(lambda: rig.committed() == 1)
    (letter,) = rig.kafka.read(DEAD)
    headers = dict(letter.headers)
    assert (letter.key, letter.value) == (source.key, source.value)
    assert headers["__dlq.errors.disposition"] == disposition
    assert headers["__dlq.errors.topic"] == b"notification.deliver.apns.normal"
    assert headers["__dlq.errors.offset"] == b"0"
    assert headers["__dlq.errors.group"] == b"everpost.send.apns"
    assert headers["__dlq.errors.delivery.count"] == b"4"
    assert headers["__dlq.errors.message"] == f"{answer.reason} ({answer.code})".encode()
    assert rig.told()[0].state == "dead"


async def test_an_sms_that_may_have_gone_out_is_not_repeated() -> None:
    """Uncertain ends an SMS as dead, whatever rung it is on."""
    rig = Rig(ScriptedConnector(Uncertain(reason="hung up")), channel="sms")
    rig.kafka.write(record(delivery(channel="sms")))
    async with rig.running():
        await eventually(lambda: rig.committed() == 1)
    assert [(told.outcome, told.state) for told in rig.told()] == [("uncertain", "dead")]
    assert len(rig.connector.sent) == 1
    assert not [topic for topic in rig.kafka.topics if "retry" in topic]


@pytest.mark.parametrize(
    "value",
    [
        None,
        b"",
        b"\x00",
        b"not avro at all",
        b"\x00\x00\x00\x00\x63" + b"x" * 20,
        WIRE.encode(delivery())[:-3],
        WIRE.encode(delivery(attempt=0)),  # it would go round more often than the ladder allows
        WIRE.encode(delivery(attempt=-100)),
    ],
)
async def test_poison_is_kept_and_passed(value: bytes | None) -> None:
    """A record that nobody can read is a dead letter with its bytes, and the next one is sent."""
    rig = Rig(ScriptedConnector())
    poison = Outgoing(
        topic="notification.deliver.apns.normal", key=b"acme/u-1", value=value, headers=(("a", b"b"),)
    )
    rig.kafka.write(poison, record(delivery()))
    async with rig.running():
        await eventually(lambda: rig.committed() == 2)
    (letter,) = rig.kafka.read(DEAD)
    assert letter.value == value
    headers = dict(letter.headers)
    assert headers["a"] == b"b"
    assert headers["__dlq.errors.disposition"] == b"unreadable"
    assert headers["__dlq.errors.exception.class.name"] == b"Unreadable"
    assert [message.event_id for message in rig.connector.sent] == ["e-1"]


async def test_a_delivery_in_a_foreign_topic_is_not_sent() -> None:
    """An SMS in the push topic is poison, not a push."""
    rig = Rig(ScriptedConnector())
    rig.kafka.write(record(delivery(channel="sms"), "notification.deliver.apns.normal"))
    async with rig.running():
        await eventually(lambda: rig.committed() == 1)
    assert rig.connector.sent == []
    assert len(rig.kafka.read(DEAD)) == 1


async def test_what_makes_no_words_is_dead() -> None:
    """A broken template, a missing one and an unreadable event end as unrenderable, without a request."""
    rig = Rig(ScriptedConnector(), templates=OneTemplate(text="{{ nowhere }}"))
    rig.kafka.write(
        record(delivery("e-1")),
        record(delivery("e-2", template_version=99)),
        record(delivery("e-3", event=b"\x00junk")),
    )
    async with rig.running():
        await eventually(lambda: rig.committed() == 3)
    assert {(told.outcome, told.state, told.provider) for told in rig.told()} == {
        ("unrenderable", "dead", "")
    }
    assert "'nowhere' is undefined" in rig.told()[0].reason
    assert "is not in this sender's catalogue" in rig.told()[1].reason
    assert rig.connector.sent == []
    assert len(rig.kafka.read(DEAD)) == 3


async def test_too_late_is_not_sent() -> None:
    """An expired delivery ends as expired, without a request and without a dead letter."""
    rig = Rig(ScriptedConnector())
    rig.kafka.write(record(delivery(expires_at=NOW)))
    async with rig.running():
        await eventually(lambda: rig.committed() == 1)
    assert [(told.outcome, told.state) for told in rig.told()] == [("expired", "expired")]
    assert rig.connector.sent == []
    assert rig.kafka.read(DEAD) == []


async def test_an_opt_out_between_two_attempts_holds() -> None:
    """A retry asks for consent again, in one query for the whole batch, and uses the address of now."""
    yes, no = profile("u-1"), profile("u-2", preferences={("flights", "apns"): False})
    rig = Rig(ScriptedConnector(), profiles=MemoryProfiles(yes, no))
    rig.kafka.write(*(record(delivery(f"e-{n}", attempt=2)) for n in range(8)))
    rig.kafka.write(record(delivery("e-no", attempt=2, user_id="u-2")))
    async with rig.running():
        await eventually(lambda: rig.committed() == 9)
    assert {message.address for message in rig.connector.sent} == {"to-apns"}
    assert {message.registered_at for message in rig.connector.sent} == {NOW}
    assert [told.event_id for told in rig.told() if told.state == "suppressed"] == ["e-no"]
    assert len(rig.connector.sent) == 8
    assert len(rig.profiles.queries) <= 2


async def test_profiles_away_pauses_and_skips_nothing() -> None:
    """While Postgres is away a retry waits; when it is back, it is sent."""
    rig = Rig(ScriptedConnector(), profiles=MemoryProfiles(profile()))
    rig.profiles.away = True
    rig.kafka.write(record(delivery("e-1", attempt=2)), record(delivery("e-2")))
    async with rig.running():
        await eventually(lambda: len(rig.told()) == 1)  # the first attempt needs no profile
        assert rig.committed() == 0
        rig.profiles.away = False
        await eventually(lambda: rig.committed() == 2)
    assert len(rig.connector.sent) == 2


async def test_a_record_that_is_taken_away_is_not_sent() -> None:
    """While its profile is asked for, the partition goes to another process: only that one sends."""
    rig = Rig(ScriptedConnector(), profiles=MemoryProfiles(profile()))
    rig.profiles.held = asyncio.Event()
    rig.kafka.write(record(delivery(attempt=2)))
    async with rig.running():
        await eventually(lambda: rig.profiles.asked == 1)
        rig.consumer.revoke()
        rig.profiles.held.set()
        await asyncio.sleep(0.02)
        assert rig.connector.sent == []
        rig.consumer.assign()
        await eventually(lambda: rig.committed() == 1)
    assert len(rig.connector.sent) == 1


async def test_kafka_away_sends_nothing_twice() -> None:
    """What came of a request waits until it can be written; it is not asked for again."""
    rig = Rig(ScriptedConnector())
    rig.connector.held["e-1"] = asyncio.Event()
    rig.kafka.write(record(delivery()))
    async with rig.running():
        await eventually(lambda: len(rig.connector.sent) == 1)
        rig.kafka.down = True
        rig.connector.held["e-1"].set()
        await asyncio.sleep(0.05)
        assert (rig.committed(), rig.kafka.read(OUTCOMES)) == (0, [])
        rig.kafka.down = False
        await eventually(lambda: rig.committed() == 1)
    assert len(rig.connector.sent) == 1
    assert len(rig.told()) == 1


async def test_a_channel_fault_pauses_and_burns_nothing() -> None:
    """While the credential is bad one record at a time is tried; then all go out on their first attempt."""
    fault = ChannelFault(reason="set EVERPOST_CONNECTOR_APNS_KEY", code="403")
    rig = Rig(ScriptedConnector(*[fault] * 6), in_flight=4)
    rig.kafka.write(*(record(delivery(f"e-{n}")) for n in range(12)))
    async with rig.running():
        await eventually(lambda: len(rig.connector.sent) == 6)
        assert (rig.committed(), rig.told()) == (0, [])
        await eventually(lambda: rig.committed() == 12)
    assert {(told.outcome, told.attempt) for told in rig.told()} == {("delivered", 1)}
    assert len(rig.told()) == 12
    assert len(rig.connector.sent) == 18
    assert rig.consumer.most <= 4


async def test_a_faulty_channel_lets_go() -> None:
    """A revoke and SIGTERM end the wait at the gate undone; after a new assignment one record probes again."""
    fault = ChannelFault(reason="set the key")
    rig = Rig(ScriptedConnector(*[fault] * 100_000), in_flight=4)
    rig.kafka.write(*(record(delivery(f"e-{n}")) for n in range(4)))
    async with rig.running():
        await eventually(lambda: len(rig.connector.sent) >= 4)
        rig.consumer.revoke()
        await asyncio.sleep(0.3)
        rig.consumer.assign()
        await eventually(lambda: rig.consumer.busy == 1)
    assert rig.committed() == 0
    assert rig.told() == []


async def test_stop_waits_for_what_is_out() -> None:
    """SIGTERM lets requests end, writes and commits them, and reads nothing new."""
    rig = Rig(ScriptedConnector(), in_flight=3)
    rig.connector.hold_all = True
    rig.kafka.write(*(record(delivery(f"e-{n}")) for n in range(9)))
    stop = asyncio.Event()
    task = asyncio.create_task(run(rig.sender(), stop))
    await eventually(lambda: len(rig.connector.sent) == 3)
    stop.set()
    await asyncio.sleep(0.05)
    assert not task.done()
    for held in rig.connector.held.values():
        held.set()
    await asyncio.wait_for(task, 3)
    assert rig.committed() == 3
    assert len(rig.connector.sent) == 3


async def test_stop_does_not_wait_for_ever() -> None:
    """A request that is still out when patience ends counts as uncertain, and an SMS ends there."""
    rig = Rig(ScriptedConnector(), channel="sms", send_timeout=60.0, patience=0.1)
    rig.connector.hold_all = True
    rig.kafka.write(record(delivery(channel="sms")))
    async with asyncio.timeout(3):
        async with rig.running():
            await eventually(lambda: len(rig.connector.sent) == 1)
    assert [(told.outcome, told.state) for told in rig.told()] == [("uncertain", "dead")]
    assert rig.committed() == 1


async def test_a_connector_that_never_answers_is_uncertain() -> None:
    """The belt around `send` holds when the connector's own limit does not."""
    rig = Rig(ScriptedConnector(), send_timeout=-1.99)  # with the margin: 10 ms
    rig.connector.hold_all = True
    rig.kafka.write(record(delivery()))
    async with rig.running():
        await eventually(lambda: rig.committed() == 1)
    assert [(told.outcome, told.state) for told in rig.told()] == [("uncertain", "in_flight")]


async def test_a_bug_in_a_connector_stops_nobody_else() -> None:
    """An exception out of `send` is uncertain for its record, and the next one is sent."""
    rig = Rig(ScriptedConnector(KeyError("x")))
    rig.kafka.write(record(delivery("e-1")), record(delivery("e-2")))
    async with rig.running():
        await eventually(lambda: rig.committed() == 2)
    assert sorted(told.outcome for told in rig.told()) == ["delivered", "uncertain"]


async def test_what_no_wait_mends_ends_the_process() -> None:
    """An error of the consumer that is no outage comes out of the stage as it is."""
    rig = Rig(ScriptedConnector())

    async def refuse(rooms: object, wait: float) -> list[Incoming]:
        raise ConfigurationError("give each process its own EVERPOST_INSTANCE")

    rig.consumer.fetch = refuse
    with pytest.raises(ConfigurationError, match="EVERPOST_INSTANCE"):
        await run(rig.sender(), asyncio.Event())


async def test_urgent_goes_first_and_keeps_its_share() -> None:
    """A bulk backlog on a slow provider leaves slots for a one-time code."""
    rig = Rig(ScriptedConnector(), in_flight=10)
    rig.connector.hold_all = True
    rig.kafka.write(*(record(delivery(f"b-{n}", lane="bulk")) for n in range(30)))
    rig.kafka.write(*(record(delivery(f"n-{n}")) for n in range(30)))
    stop = asyncio.Event()
    task = asyncio.create_task(run(rig.sender(), stop))
    await eventually(lambda: len(rig.connector.sent) == 9)
    rig.kafka.write(record(delivery("u-0", lane="urgent")))
    await eventually(lambda: len(rig.connector.sent) == 10)
    assert rig.connector.sent[-1].urgent
    rig.connector.hold_all = False
    for held in rig.connector.held.values():
        held.set()
    await eventually(lambda: rig.committed("bulk") == 30 and rig.committed("normal") == 30)
    stop.set()
    await task
    assert rig.consumer.most <= 10


def test_rooms() -> None:
    """Half the slots for bulk, a tenth kept for urgent; a single slot serves all lanes."""
    names = [f"notification.deliver.sms.{lane}" for lane in ("urgent", "normal", "bulk")]
    assert rooms("sms", 100, 0) == dict(zip(names, (100, 90, 50), strict=True))
    assert rooms("sms", 100, 60) == dict(zip(names[:2], (40, 30), strict=True))
    assert rooms("sms", 100, 95) == {names[0]: 5}
    assert rooms("sms", 100, 100) == {}
    assert set(rooms("sms", 1, 0).values()) == {1}
