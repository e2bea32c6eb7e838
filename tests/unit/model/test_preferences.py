"""Preferences: the most specific word wins, and the answer says whose it was."""

from collections.abc import Mapping
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.model.preferences import allows
from tests.support.make import FLIGHTS, OFFERS, SECURITY, profile

# From the widest to the most specific, and the words by which the evidence names it.
LEVELS = [
    ("tenant_defaults", ("", "sms"), "tenant default: sms is "),
    ("tenant_defaults", ("flights", ""), "tenant default: flights is "),
    ("tenant_defaults", ("flights", "sms"), "tenant default: flights × sms is "),
    ("preferences", ("", "sms"), "sms is "),
    ("preferences", ("flights", ""), "flights is "),
    ("preferences", ("flights", "sms"), "flights × sms is "),
]
ALWAYS_OTHER = {
    ("flights", "email"): False,
    ("offers", "sms"): False,
    ("offers", ""): False,
    ("", "apns"): False,
}


@given(said=st.lists(st.sampled_from([None, True, False]), min_size=len(LEVELS), max_size=len(LEVELS)))
def test_the_most_specific_word_wins(said: list[bool | None]) -> None:
    """Category × channel, category, channel, the tenant's same levels, then the category's default."""
    words: dict[str, Any] = {"preferences": dict(ALWAYS_OTHER), "tenant_defaults": {}}
    expected, evidence = True, "default of flights on sms is on"
    for (whose, level, words_for), word in zip(LEVELS, said, strict=True):
        if word is not None:
            words[whose][level] = word
            expected, evidence = word, words_for + ("on" if word else "off")
    answer = allows(profile(**words), FLIGHTS, "sms")
    assert (answer.allowed, answer.reason) == (expected, evidence)


def test_the_global_switch_is_a_hard_stop() -> None:
    """Off is off, whatever else the user has said."""
    answer = allows(profile(enabled=False, preferences={("flights", "sms"): True}), FLIGHTS, "sms")
    assert (answer.allowed, answer.reason) == (False, "global switch is off")


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({}, "required category"),
        ({"enabled": False}, "required category, passes: global switch is off"),
        ({"preferences": {("security", ""): False}}, "required category, passes: security is off"),
        ({"tenant_defaults": {("", "sms"): False}}, "required category, passes: tenant default: sms is off"),
    ],
)
def test_a_required_category_names_the_opt_out_that_it_passed(
    changes: Mapping[str, Any], reason: str
) -> None:
    """A security code may pass an opt-out, and the audit shows which."""
    answer = allows(profile(**changes), SECURITY, "sms")
    assert (answer.allowed, answer.reason) == (True, reason)


def test_the_categorys_default_comes_last() -> None:
    """Where nobody has said anything the catalogue decides."""
    assert allows(profile(), OFFERS, "email").allowed
    assert allows(profile(), OFFERS, "sms").reason == "default of offers on sms is off"
