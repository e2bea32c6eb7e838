"""`everpost why` on the running system: every silence names the gate that made it, and its evidence.

One stack for the module. Each test has ids of its own, and types the commands that people type: most of
its time is theirs to start (0.7 s each).
"""

import os
import shutil
from collections.abc import Generator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import count
from pathlib import Path

import pytest

from pipeline.adapters.kafka.ends import end_offsets
from pipeline.model.event import LANES
from pipeline.model.topics import deliver
from tests.support import services
from tests.support.commands import FLIGHT, last, ready, run, up

pytestmark = [pytest.mark.acceptance, pytest.mark.integration]
DEMO = Path(__file__).parents[2] / "infra" / "demo" / "catalogue"
OFFER = ("destination=Lisbon", "price=49 EUR", "until=Sunday")
ANN = "ann"  # a user with a phone, who wants what comes by default


@dataclass(frozen=True, slots=True, kw_only=True)
class System:
    """The running pipeline, and how to talk to it."""

    environment: Mapping[str, str]

    def do(self, *arguments: str) -> str:
        """Type a command that works; what it prints."""
        done = run(self.environment, *arguments)
        assert done.returncode == 0, (arguments, done.stderr)
        return done.stdout

    def publish(self, event_id: str, user: str, *options: str, type: str = "flight.cancelled") -> str:
        """Publish one event; its topic/partition/offset."""
        words = OFFER if type == "offer.weekend" else FLIGHT
        said = self.do("publish", type, *words, "--user", user, "--event-id", event_id, *options)
        return said.splitlines()[0].split(" at ")[1]

    def why(self, event_id: str, told: str) -> str:
        """What `everpost why` says of an id, once `told` is in it; at most one gate has stopped a record."""

        def answered() -> str:
            text = run(self.environment, "why", event_id).stdout
            return text if told in text else ""

        text = services.until(answered)
        assert text.count("  STOPPED ") <= text.count("Event ")
        return text


@pytest.fixture(scope="module")
def system() -> Generator[System]:
    """The stack, with the demo's catalogue and a cap of one offer a day by SMS."""
    with services.scratch() as home:
        catalogue = home / "catalogue"
        shutil.copytree(DEMO, catalogue)
        with (catalogue / "categories.toml").open("a", encoding="utf-8") as file:
            file.write('\n[offers.caps]\nsms = "1 in 24h"\n')
        named = {"EVERPOST_CATALOGUE": str(catalogue)}
        with up(home, {**os.environ, **named}) as process:
            found = System(environment={**ready(process, home), **named})
            found.do("register", ANN, "--sms", "+19175550100", "--locale", "de-AT")
            yield found


def test_held_by_quiet_hours(system: System) -> None:
    """The user sleeps: the window, its time zone, and until when it is held."""
    now = datetime.now(UTC)  # noqa: TID251 - the running system's clock
    begin, end = f"{now - timedelta(hours=1):%H:%M}", f"{now + timedelta(hours=3):%H}:00"
    system.do("register", "sleeper", "--sms", "+19175550101")
    system.do("quiet-hours", "sleeper", begin, end, "--timezone", "Etc/UTC")
    system.publish("quiet", "sleeper")
    text = system.why("quiet", f"  STOPPED quiet hours: {begin} to {end} in Etc/UTC, until ")
    assert "is held for later: the user sleeps" in text
    assert f"T{end}:00+00:00" in text


def test_held_until_its_time_and_recalled_meanwhile(system: System) -> None:
    """Published for later: until when; and at once, not when it is due, which order has withdrawn it."""
    system.publish("due", ANN, "--deliver-at", "+2h")
    text = system.why("due", "  STOPPED due: deliver_at is to come, until ")
    assert "is held for later: its time has not come" in text
    order = last(run(system.environment, "recall", "--event", "due", "--why", "wrong price", "--json"))
    assert order["reach"] == {"delivered": 0, "open": 0, "held": 1, "known": True}
    assert f"is recalled and will not be sent (recall {order['recall_id']} of " in system.do("why", "due")
    assert f"recall {order['recall_id']} of {order['at']} ends 1 of the held" in system.do("ledger")


def test_recalled(system: System) -> None:
    """What happened before the order and is decided after it names the order as evidence."""
    order = last(run(system.environment, "recall", "--collapse-key", "gate-b4", "--why", "b5", "--json"))
    assert not order["reach"]["known"]
    stopped = f"  STOPPED recalled: recall {order['recall_id']} of {order['at']}"
    numbers = count()

    def moved() -> str:
        event_id = f"moved-{next(numbers)}"
        system.publish(event_id, ANN, "--collapse-key", "gate-b4", "--created-at", "-1m")
        text = system.why(event_id, "decided")
        return text if stopped in text else ""

    text = services.until(moved)  # an order reaches every stage within a second
    assert "was not sent (recalled): an operator has withdrawn it" in text


def test_capped(system: System) -> None:
    """The second offer of the day: the counter and its limit."""
    system.do("register", "bargain", "--sms", "+19175550102")
    system.do("opt-in", "bargain", "offers:sms")
    system.publish("offer-1", "bargain", type="offer.weekend")
    system.publish("offer-2", "bargain", type="offer.weekend")
    text = system.why("offer-2", "  STOPPED frequency: sms: 1 of 1 in 24 h")
    assert "the user has had as many of its category as may be" in text


@pytest.mark.parametrize(
    ("user", "wish", "evidence"),
    [
        ("no-flights", ("opt-out", "no-flights", "flights"), "sms: flights is off"),
        ("silent", ("opt-out", "silent", "--all"), "sms: global switch is off"),
        ("guest", ("tenant-default", "off", "flights:sms", "--tenant", "quiet"), "sms: tenant default: flights × sms is off"),
    ],
)  # fmt: skip
def test_opted_out(system: System, user: str, wish: tuple[str, ...], evidence: str) -> None:
    """Which word of the user or the tenant, on which level, was the reason."""
    tenant = ("--tenant", "quiet" if "quiet" in wish else "demo")
    system.do("register", user, "--sms", "+19175550103", *tenant)
    system.do(*wish)
    system.publish(f"unwanted-{user}", user, "--channel", "sms", *tenant)
    assert "the user does not want it" in system.why(f"unwanted-{user}", f"  STOPPED preference: {evidence}")


def test_suppressed_until_it_is_taken_off_the_list(system: System) -> None:
    """Which address, by its id, and why; the same user is reached again when it is off the list."""
    number = "+19175550104"
    system.do("register", "annoyed", "--sms", number)
    system.do("suppression", "add", "sms", number, "--reason", "complaint")
    (listed,) = last(run(system.environment, "suppression", "--json"))
    assert (listed["value"], listed["reason"]) == (number, "complaint")
    (address,) = last(run(system.environment, "user", "annoyed", "--json"))["addresses"]
    system.publish("listed", "annoyed")
    text = system.why("listed", f"  STOPPED suppression: sms {address['address_id']}: complaint")
    assert "nothing is sent to its addresses any more" in text
    system.do("suppression", "remove", "sms", number)
    system.publish("free", "annoyed")
    system.why("free", "delivered by sms")


def test_a_duplicate_and_an_id_used_for_something_else(system: System) -> None:
    """The same id again, with the same and with other content: where the first was decided."""
    place = system.publish("again", ANN)
    system.publish("again", ANN)
    text = system.why("again", f"  STOPPED duplicate: decided at {place}")
    assert "an earlier record has the same id" in text
    system.publish("again", ANN, "--locale", "en")
    text = system.why("again", f"  STOPPED duplicate: other content was decided at {place}")
    assert "was not sent (rejected): an earlier record has the same id and other content" in text


def test_expired(system: System) -> None:
    """What happened longer ago than its type is good for: since when."""
    system.publish("stale", ANN, "--created-at", "-13h")
    assert "was not sent (expired): it came too late" in system.why("stale", "  STOPPED expired: since 2")


def test_an_unknown_user(system: System) -> None:
    """Nobody has registered the recipient, and who asks for the user is told what to do next."""
    system.publish("stranger", "stranger")
    assert "there is no such user" in system.why("stranger", "  STOPPED known: no profile")
    asked = run(system.environment, "opt-out", "stranger", "flights")
    assert asked.returncode == 78
    assert "no user 'stranger' of tenant 'demo' is registered" in asked.stderr
    assert "everpost register stranger --tenant demo" in asked.stderr


def test_no_address(system: System) -> None:
    """A user without an address: on which channels one was looked for."""
    system.do("register", "hermit")
    system.publish("unreachable", "hermit", "--channel", "sms", "--channel", "email")
    text = system.why("unreachable", "  STOPPED address: no active address for sms, email")
    assert "there is no active address to send it to" in text


def test_what_other_rules_would_have_made_of_it(system: System, tmp_path: Path) -> None:
    """Who would gain and lose under another cap and another default of the tenant; nothing is sent for it."""
    own = ("--tenant", "sim")
    system.do("register", "saver", "--sms", "+19175550105", *own)
    system.do("opt-in", "saver", "offers:sms", *own)
    system.publish("sim-1", "saver", *own, type="offer.weekend")
    system.publish("sim-2", "saver", *own, type="offer.weekend")
    system.publish("sim-3", "saver", *own)
    for event_id, told in (("sim-1", "delivered"), ("sim-2", "frequency"), ("sim-3", "delivered by sms")):
        system.why(event_id, told)
    rules = tmp_path / "rules.toml"
    rules.write_text(
        '[categories.offers.caps]\nsms = "2 in 24h"\n[tenant-defaults.sim]\n"flights:sms" = false\n'
    )
    servers = system.environment["EVERPOST_BOOTSTRAP_SERVERS"]
    sms = [deliver("sms", lane) for lane in LANES]
    ends = end_offsets(servers, sms)
    told = last(run(system.environment, "simulate", "--from", "1h", "--rules", str(rules), "--json", *own))
    assert told["events"] == {"gain": 1, "lose": 1, "change": 0, "same": 1}
    assert (told["samples"]["gain"], told["samples"]["lose"]) == (["sim-2"], ["sim-3"])
    assert {
        "fate": "gain",
        "type": "offer.weekend",
        "before": "suppressed: capped",
        "after": "sms",
        "events": 1,
    } in told["moves"]
    assert end_offsets(servers, sms) == ends
    words = run(system.environment, "simulate", "--from", "1h", "--type", "offer.weekend", "--template", "9")
    assert "offer.weekend has no version 9 of its words" in words.stderr


def test_delivered(system: System) -> None:
    """Every gate was passed, in which words it went out, and the attempt that delivered it."""
    system.publish("good", ANN)
    text = system.why("good", "delivered by sms")
    assert "STOPPED" not in text
    assert "passed  template: version 1 in de, of de-AT → de → en" in text
    assert "    attempt 1 " in text


def test_what_is_wrong_is_told_with_its_fix(system: System) -> None:
    """Bad input is refused at the door, by field and fix."""
    missing = run(system.environment, "publish", "flight.cancelled", "flight=UA 1", "--user", ANN)
    assert missing.returncode == 78
    assert "data.carrier: is missing; flight.cancelled needs a string here" in missing.stderr
    unknown = run(system.environment, "publish", "flight.moved", "--user", ANN)
    assert "'flight.moved' is not in the catalogue" in unknown.stderr
