"""Unsubscribe links: read back as they were made, by nobody else, and never by a stranger's making."""

import pytest
from cryptography.fernet import Fernet
from hypothesis import given
from hypothesis import strategies as st

from pipeline.adapters.links import Links
from pipeline.model.errors import ConfigurationError
from pipeline.model.unsubscribe import Subscription

OLD, NEW = Fernet.generate_key().decode(), Fernet.generate_key().decode()
BASE = "https://mail.example.com/u"
SUBSCRIPTION = Subscription(
    tenant="acme", user_id="ada", category="offers", channel="email", delivery_id="d-1"
)


@given(st.builds(Subscription, *[st.text(max_size=128)] * 3, st.just("email"), st.text(max_size=36)))
def test_a_link_is_read_back(of: Subscription) -> None:
    """Whatever the ids hold; and it is an address without a character that a mail program would change."""
    link = Links(f"{BASE}/", [NEW])(of)
    base, _, token = link.rpartition("/")
    assert base == BASE
    assert token.replace("-", "").replace("_", "").isalnum()
    assert token.isascii()
    assert Links(BASE, [NEW]).read(token) == of


def test_a_link_tells_nothing() -> None:
    """Neither the user nor the same token twice, by which mails could be joined."""
    links = Links(BASE, [NEW])
    assert "ada" not in links(SUBSCRIPTION)
    assert links(SUBSCRIPTION) != links(SUBSCRIPTION)


@given(st.data())
def test_a_stranger_makes_none(data: st.DataObject) -> None:
    """Changed by a character, cut off, of another key, or anything at all."""
    links = Links(BASE, [NEW])
    token = links(SUBSCRIPTION).rpartition("/")[2]
    at = data.draw(st.integers(0, len(token) - 2))  # the last character has bits that mean nothing
    other = data.draw(st.sampled_from("abcXYZ019-_").filter(lambda one: one != token[at]))
    assert links.read(token[:at] + other + token[at + 1 :]) is None
    assert links.read(token[:at]) is None
    assert links.read(data.draw(st.text())) is None
    assert links.read(Links(BASE, [OLD])(SUBSCRIPTION).rpartition("/")[2]) is None
    assert links.read("A" * 1_000_000) is None


def test_keys_are_changed_without_a_gap() -> None:
    """The first seals, and the old one still opens."""
    before = Links(BASE, [OLD])(SUBSCRIPTION).rpartition("/")[2]
    both = Links(BASE, [NEW, OLD])
    assert both.read(before) == SUBSCRIPTION
    assert Links(BASE, [NEW]).read(both(SUBSCRIPTION).rpartition("/")[2]) == SUBSCRIPTION


@pytest.mark.parametrize("keys", [[], ["short"], [NEW, "é"]])
def test_bad_keys_are_named(keys: list[str]) -> None:
    """With the setting, and never with the key."""
    with pytest.raises(ConfigurationError, match="EVERPOST_UNSUBSCRIBE_KEYS") as error:
        Links(BASE, keys)
    assert NEW not in str(error.value)
