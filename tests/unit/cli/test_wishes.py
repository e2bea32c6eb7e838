"""A wish as people write it, and the level of preference that it means."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.cli.wishes import spoken, wishes
from pipeline.model.errors import ConfigurationError
from pipeline.model.event import CHANNELS
from tests.support.make import CATALOGUE

KNOWN = {kind.category.name: kind.category for kind in CATALOGUE.values()}


@pytest.mark.parametrize(
    ("text", "wish", "words"),
    [
        ("offers", ("offers", ""), "offers"),
        ("offers:sms", ("offers", "sms"), "offers by sms"),
        (":sms", ("", "sms"), "everything by sms"),
    ],
)
def test_each_level_has_its_form(text: str, wish: tuple[str, str], words: str) -> None:
    """A category, a channel, or both; the widest of all is the global switch and no wish."""
    assert wishes([text], KNOWN) == [wish]
    assert spoken(wishes([text], KNOWN)[0]) == words


@pytest.mark.parametrize(
    "text", ["", ":", "ofers", "offers:", "ofers:sms", "offers:fax", ":fax", "offers:sms:x"]
)
def test_a_slip_is_told_with_what_may_be_written(text: str) -> None:
    """Nobody is opted out of something that does not exist, and believes it."""
    with pytest.raises(ConfigurationError, match=r"categories: .*offers|is no channel: apns"):
        wishes([text], KNOWN)


@given(st.sampled_from(["", *KNOWN]), st.sampled_from(["", *CHANNELS]))
def test_what_is_written_is_what_is_meant(category: str, channel: str) -> None:
    """Every level but the widest can be written, and is read as it was meant."""
    if category or channel:
        text = f"{category}:{channel}" if channel else category
        assert wishes([text], KNOWN) == [(category, channel)]
