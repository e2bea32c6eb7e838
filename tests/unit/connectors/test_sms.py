"""How long a text is on the way to a phone, and what is too long for it."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from connectors._sms import GSM, MOST, refusal, segments
from connectors.contract import Content, Message, Permanent

_septets = st.text(st.sampled_from(sorted(GSM)), max_size=2_000)
_anything = st.text(st.characters(exclude_categories=["Cs"]), max_size=2_000)


@pytest.mark.parametrize(
    ("text", "count"),
    [
        ("a" * 160, 1),
        ("a" * 161, 2),
        ("a" * 306, 2),
        ("a" * 307, 3),
        ("€" * 80, 1),  # two septets each
        ("€" * 81, 2),
        ("a" * 152 + "€" * 77, 3),  # an escape and its character are not parted: 152, 152, 2 septets
        ("ç" * 70, 1),
        ("ç" * 71, 2),
        ("✈" * 134, 2),
        ("😀" * 35, 1),  # two units each
        ("😀" * 36, 2),
        ("ç" * 66 + "😀" * 34, 3),  # a pair is not parted: 66, 66, 2 units
    ],
)
def test_the_bounds(text: str, count: int) -> None:
    """One more character is one more SMS."""
    assert segments(text) == count


@given(_septets | _anything, _septets | _anything)
def test_more_text_is_never_fewer(text: str, more: str) -> None:
    """A longer text takes at least as many, and each holds at most 160 septets or 70 units."""
    assert 1 <= segments(text) <= segments(text + more)
    units = len(text.encode("utf-16-le")) // 2
    assert segments(text) >= units // (160 if GSM.issuperset(text) else 70)


@given(_septets | _anything)
def test_too_long_is_refused_and_nothing_else(text: str) -> None:
    """Ten are sent; the eleventh is a clear no, that says how many there would be."""
    found = refusal(sms(f"x{text}"))
    assert isinstance(found, Permanent) == (segments(f"x{text}") > MOST)
    assert found is None or f"{segments(f'x{text}')} SMS" in found.reason


def sms(text: str) -> Message:
    """A message with this text."""
    return Message(delivery_id="d", event_id="e", address="+19175550100", content=Content(text=text))
