"""Two worlds over one log: whatever differs comes from the rules."""

from dataclasses import replace
from datetime import timedelta

from hypothesis import given
from hypothesis import strategies as st

from pipeline.cli.simulate.worlds import Past, Rules, World, compare
from pipeline.model.catalogue import Cap
from pipeline.model.delivery import Delivery
from pipeline.model.event import Event
from pipeline.stages.route.facts import Source
from tests.support.make import CATALOGUE, NEWS, NOW, event, profile

PEOPLE = {("acme", "u-1"): profile("u-1")}


def past(number: int, type: str = "news.brief", user_id: str = "u-1") -> Past:
    """An event that was decided so many minutes later."""
    at = NOW + timedelta(minutes=number)
    source = Source(topic="notification.events.normal", partition=0, offset=number)
    return Past(event(f"e-{number}", user_id, type=type, created_at=at), b"", source, at)


@given(st.lists(st.sampled_from(sorted(CATALOGUE)), max_size=8))
def test_the_same_rules_change_nothing(types: list[str]) -> None:
    """Whatever the log holds, caps and unknown users too."""
    pasts = [past(n, type, f"u-{n % 2 + 1}") for n, type in enumerate(types)]
    found = compare(pasts, PEOPLE, World(CATALOGUE, Rules()), World(CATALOGUE, Rules()))
    assert found.events.keys() <= {"same"}
    assert found.events.total() == len(pasts)


def test_each_world_counts_its_own_sends() -> None:
    """A narrower cap takes away what comes after it is full, and nothing before."""
    strict = replace(NEWS, caps={"apns": Cap(limit=1, window=timedelta(hours=2)), "sms": NEWS.caps["sms"]})
    other = World(CATALOGUE, Rules(categories={NEWS.name: strict}))
    found = compare([past(n) for n in range(3)], PEOPLE, World(CATALOGUE, Rules()), other)
    assert found.as_json()["events"] == {"gain": 0, "lose": 1, "change": 1, "same": 1}
    assert found.samples["lose"] == ["e-1"]


def test_a_default_of_the_tenant_yields_to_the_users_word() -> None:
    """What is switched off for all is lost by those who have said nothing."""
    off = Rules(defaults={"acme": {("flights", ""): False}})
    said = replace(profile("u-2"), preferences={("flights", ""): True})
    people = {**PEOPLE, ("acme", "u-2"): said}
    pasts = [past(0, "flight.cancelled"), past(1, "flight.cancelled", "u-2")]
    found = compare(pasts, people, World(CATALOGUE, Rules()), World(CATALOGUE, off))
    assert (found.samples["lose"], found.samples["same"]) == (["e-0"], ["e-1"])
    assert {after for _, _, _, after in found.moves} >= {"suppressed: opted_out"}


def test_words_that_cannot_be_rendered_are_a_loss() -> None:
    """A version that asks for what an event does not say reaches nobody."""

    def none(_delivery: Delivery, _event: Event) -> bool:
        return False

    other = World(CATALOGUE, Rules(), none)
    found = compare([past(0, "flight.cancelled")], PEOPLE, World(CATALOGUE, Rules()), other)
    assert [after for _, _, _, after in found.moves] == ["unrenderable"]
    assert found.events["lose"] == 1
