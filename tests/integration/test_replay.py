"""Dead letters on a real Kafka and PostgreSQL, by the real commands: looked at, sent again once, mended, discarded."""

import secrets
from collections import Counter
from dataclasses import replace
from typing import Any

import pytest

from pipeline.adapters.postgres.log import PostgresLog
from pipeline.adapters.postgres.pool import transaction
from pipeline.adapters.postgres.profiles import save_profiles
from pipeline.adapters.wire.codec import Wire
from pipeline.adapters.wire.ids import LockFile
from pipeline.model.dead import Cause
from pipeline.model.delivery import Delivery
from pipeline.model.event import Event
from pipeline.model.outcome import Outcome
from pipeline.model.profile import Address, Profile
from pipeline.model.record import Outgoing
from pipeline.model.topics import DEAD, deliver
from tests.support.database import migrated
from tests.support.letters import BUSY, CHANNEL, command, dead, letter, write
from tests.support.log import outcome
from tests.support.make import NOW
from tests.support.topics import create_topics, read_tenant

pytestmark = pytest.mark.integration
WIRE = Wire(LockFile())
TOPIC = deliver(CHANNEL, "normal")
WHY = ("--why", "a test")


@pytest.fixture
def tenant(kafka: str) -> str:
    """Letters of this test alone; the broker is shared."""
    create_topics(kafka)
    return f"t{secrets.token_hex(6)}"


def sent(kafka: str, tenant: str) -> list[tuple[Delivery, dict[str, Any]]]:
    """The deliveries that are on their channel again, with their headers."""
    found = [(m.value(), dict(m.headers() or [])) for m in read_tenant(kafka, TOPIC, tenant)]
    return [(WIRE.decode(Delivery, value), headers) for value, headers in found if isinstance(value, bytes)]


def told(of: Delivery, attempt: int, **changes: Any) -> Outcome:
    """An outcome of a delivery."""
    values = {name: getattr(of, name) for name in ("event_id", "user_id", "tenant", "channel", "address_id")}
    return outcome(of.delivery_id, **{**values, "attempt": attempt, **changes})


async def test_the_same_letters_again_send_nothing(kafka: str, postgres: str, tenant: str) -> None:
    """The first run sends each once, byte for byte but for the attempt; the second says who has them."""
    deliveries = [dead(tenant, n) for n in range(40)]
    # A sender that died after it had written a letter wrote a second one of the same attempt.
    await write(kafka, [letter(one) for one in [*deliveries, deliveries[0]]])
    async with migrated(postgres) as pool:
        first = await command(kafka, postgres, "replay", "--tenant", tenant, *WHY)
        assert (first["sent"], first["counts"]) == (40, {"sent": 40, "replayed": 1})
        found = sent(kafka, tenant)
        expected = {one.delivery_id: replace(one, attempt=7) for one in deliveries}
        assert {one.delivery_id: one for one, _ in found} == expected
        assert len(found) == 40
        assert {headers["__dlq.replay.run"] for _, headers in found} == {first["run_id"].encode()}
        assert {headers["__dlq.replay.count"] for _, headers in found} == {b"1"}
        second = await command(kafka, postgres, "replay", "--tenant", tenant, *WHY)
        assert (second["sent"], second["counts"]) == (0, {"replayed": 41})
        await PostgresLog(pool).write([], [told(one, 7) for one in deliveries])
        third = await command(kafka, postgres, "replay", "--tenant", tenant, *WHY)
        assert (third["sent"], third["counts"]) == (0, {"delivered": 41})
        told_of = await command(kafka, postgres, "runs", first["run_id"])
        assert told_of["results"] == {"delivered": 40}
        assert [action["status"] for action in told_of["actions"]] == ["frozen", "running", "done"]
    assert len(sent(kafka, tenant)) == 40


async def test_a_dry_run_says_what_would_become_of_each(kafka: str, postgres: str, tenant: str) -> None:
    """Every fate is counted with a sample and nothing is sent; resuming the run sends just those."""
    go, gone, late, opted, unsure = (dead(tenant, n) for n in range(5))
    late = replace(late, expires_at=NOW)
    poison = Outgoing(topic=DEAD, key=f"{tenant}/x".encode(), value=b"poison", headers=())
    unsure_letter = letter(unsure, Cause(disposition="uncertain", message="no answer"))
    await write(kafka, [poison, unsure_letter, *(letter(one) for one in (go, gone, late, opted))])
    async with migrated(postgres) as pool:
        async with transaction(pool) as connection:
            await save_profiles(connection, [_user(one) for one in (go, unsure)])
            await save_profiles(connection, [replace(_user(opted), enabled=False)])
        await PostgresLog(pool).write([], [told(gone, 6)])
        dry = await command(kafka, postgres, "replay", "--tenant", tenant, "--dry-run")
        fates = ("sent", "delivered", "expired", "suppressed", "uncertain", "unreadable")
        assert dry["counts"] == dict.fromkeys(fates, 1)
        assert (dry["sent"], dry["would_send"]) == (0, 1)
        assert dry["samples"]["suppressed"][0].endswith("global switch is off")
        assert sent(kafka, tenant) == []
        await write(kafka, [letter(dead(tenant, 9))])  # died after the selection was frozen
        real = await command(kafka, postgres, "resume", dry["run_id"], *WHY)
        others = dict.fromkeys(("delivered", "expired", "uncertain", "unreadable"), 1)
        assert real["counts"] == {"sent": 2, **others}
    # The opted-out one is handed over too: its sender asks the user right before the request.
    assert {one.delivery_id for one, _ in sent(kafka, tenant)} == {go.delivery_id, opted.delivery_id}


async def test_letters_are_chosen_by_what_they_say(kafka: str, postgres: str, tenant: str) -> None:
    """What a letter is about, how it died and when: ls, stats and show tell the same."""
    other = Cause(disposition="permanent", message="unroutable", provider="twilio", code="9")
    letters = [letter(dead(tenant, 1)), letter(dead(tenant, 2), other)]
    letters.append(letter(dead(tenant, 3), headers=(("origin", b"batch"),)))
    await write(kafka, letters)
    async with migrated(postgres):
        asked = (
            "--field",
            "flight=UA 1",
            "--provider",
            "vonage",
            "--type",
            "flight.cancelled",
            "--since",
            "1h",
        )
        (row,) = await command(kafka, postgres, "ls", "--tenant", tenant, *asked)
        assert row["user"] == "u-1"
        rows = await command(kafka, postgres, "stats", "--tenant", tenant)
        totals = {row["fingerprint"]: (row["total"], row["ages"]) for row in rows}
        assert totals == {
            BUSY.fingerprint("send"): (2, [2, 0, 0, 0]),
            other.fingerprint("send"): (1, [1, 0, 0, 0]),
        }
        (row,) = await command(kafka, postgres, "ls", "--tenant", tenant, "--user", "u-3")
        facts = await command(kafka, postgres, "show", row["place"])
        assert facts["event"]["data"] == {"flight": "UA 3"}
        assert facts["headers"]["origin"] == "batch"
        assert "address" not in facts["delivery"]


async def test_a_letter_is_mended_on_its_way(kafka: str, postgres: str, tenant: str) -> None:
    """Edits are checked against the type and shown as a difference; identity stays."""
    full = {"carrier": "United", "origin": "EWR", "destination": "IAH", "scheduled": "05:25"}
    one = dead(tenant, 1)
    carried = WIRE.decode(Event, one.event)
    one = replace(one, event=WIRE.encode(replace(carried, data={**carried.data, **full})))
    await write(kafka, [letter(one)])
    mend = ("--set", "data.scheduled=06:00", "--set", "template_version=2")
    async with migrated(postgres):
        wrong = await command(kafka, postgres, "replay", "--tenant", tenant, "--set", "data.gate=7", *WHY)
        assert wrong["counts"] == {"invalid": 1}
        found = await command(kafka, postgres, "replay", "--tenant", tenant, *mend, *WHY)
        changes = [["template_version", "3", "2"], ["data.scheduled", "05:25", "06:00"]]
        assert [entry["changes"] for entry in found["changes"]] == [changes]
    ((after, _),) = sent(kafka, tenant)
    assert (after.delivery_id, after.attempt, after.template_version) == (one.delivery_id, 7, 2)
    assert WIRE.decode(Event, after.event).data["scheduled"] == "06:00"


async def test_what_is_discarded_stays_dead(kafka: str, postgres: str, tenant: str) -> None:
    """No replay takes it any more, also what nobody can read; the record says who and why."""
    poison = Outgoing(topic=DEAD, key=f"{tenant}/x".encode(), value=b"poison", headers=())
    await write(kafka, [letter(dead(tenant, 1)), poison])
    async with migrated(postgres):
        gone = await command(kafka, postgres, "discard", "--tenant", tenant, "--why", "too old")
        assert gone["counts"] == {"discarded": 2}
        after = await command(kafka, postgres, "replay", "--tenant", tenant, *WHY)
        assert after["counts"] == {"discarded": 1, "unreadable": 1}
        rows = await command(kafka, postgres, "ls", "--tenant", tenant)
        assert {row["done"] for row in rows} == {f"discarded by {gone['run_id']}"}
        (entry,) = [run for run in await command(kafka, postgres, "runs") if run["run_id"] == gone["run_id"]]
        assert (entry["why"], bool(entry["who"])) == ("too old", True)
    assert sent(kafka, tenant) == []


async def test_a_letter_that_comes_back_too_often_stays(kafka: str, postgres: str, tenant: str) -> None:
    """The count travels in the headers and stands in the claims: either of them ends a loop."""
    forged = (("__dlq.replay.count", b"3"), ("__dlq.replay.run", b"r"))
    await write(kafka, [letter(dead(tenant, 1), headers=forged), letter(dead(tenant, 2))])
    counts = Counter[str]()
    async with migrated(postgres):
        for attempt in (7, 8, 9, 10):
            told_of = await command(kafka, postgres, "replay", "--tenant", tenant, "--user", "u-2", *WHY)
            counts.update(
                {fate: told_of["counts"][fate] for fate in ("sent", "looping") if fate in told_of["counts"]}
            )
            await write(kafka, [letter(dead(tenant, 2, attempt=attempt))])
        found = await command(kafka, postgres, "replay", "--tenant", tenant, "--user", "u-1", *WHY)
    assert found["counts"] == {"looping": 1}
    assert counts == {"sent": 3, "looping": 1}


def _user(of: Delivery) -> Profile:
    address = Address(address_id=of.address_id, channel=CHANNEL, value="+19175550100", registered_at=NOW)
    return Profile(tenant=of.tenant, user_id=of.user_id, version=1, addresses=(address,))
