"""Template and event to a message: what each channel gets, and what makes no message."""

from collections.abc import Mapping

import pytest

from connectors.contract import Message
from pipeline.adapters.render.liquid import Liquid
from pipeline.model.event import Channel
from pipeline.model.template import Template, Unrenderable
from pipeline.model.unsubscribe import Link, Subscription
from pipeline.stages.send.decide import Current
from pipeline.stages.send.words import to_message
from tests.support.make import CATALOGUE, NOW, event
from tests.support.sending import delivery

MAIL = {"subject": "{{ flight }}", "text": "Late{% if unsubscribe_url %}. {{ unsubscribe_url }}{% endif %}"}
PUSH = {"title": "{{ flight }}", "text": "Late"}
ASKED = "https://mail.example.com/u/TOKEN"


class One:
    """The same parts for everything."""

    def __init__(self, parts: Mapping[str, str]) -> None:
        self._parts = parts

    def get(self, type: str, version: int, channel: str, locale: str) -> Template:
        """The template."""
        return Template(type=type, version=version, channel=channel, locale=locale, parts=self._parts)


def made(
    parts: Mapping[str, str], channel: Channel, link: Link | None = None, *, required: bool = False
) -> Message | Unrenderable:
    """What comes of it."""
    return to_message(
        Current(delivery=delivery(channel=channel, required=required), registered_at=None),
        event(),
        NOW,
        templates=One(parts),
        renderer=Liquid(),
        catalogue=CATALOGUE,
        link=link,
    )


def test_a_mail_can_be_ended_with_one_click() -> None:
    """RFC 8058: both headers, and the same address for the words; it says whose mail of what."""
    asked = list[Subscription]()

    def link(of: Subscription) -> str:
        asked.append(of)
        return ASKED

    message = made(MAIL, "email", link)
    assert isinstance(message, Message)
    assert message.headers == {
        "List-Unsubscribe": f"<{ASKED}>",
        "List-Unsubscribe-Post": "List-Unsubscribe=One-Click",
    }
    assert message.content.text == f"Late. {ASKED}"
    (of,) = asked
    assert (of.tenant, of.user_id, of.category, of.channel) == ("acme", "u-1", "flights", "email")
    assert of.delivery_id == message.delivery_id


@pytest.mark.parametrize(
    ("channel", "required", "link"),
    [("email", True, lambda _: ASKED), ("apns", False, lambda _: ASKED), ("email", False, None)],
)
def test_where_there_is_nothing_to_end_there_is_no_link(
    channel: Channel, required: bool, link: Link | None
) -> None:
    """A code passes every opt-out, so its mail promises none; no other channel has headers."""
    message = made(MAIL if channel == "email" else PUSH, channel, link, required=required)
    assert isinstance(message, Message)
    assert (message.headers, message.content.text) == ({}, "Late")


def test_a_mail_goes_without_a_link_that_fills_a_line() -> None:
    """The connector would refuse the whole mail (RFC 5322, 2.1.1: 998 characters)."""
    for length, there in ((979, False), (978, True)):
        message = made(MAIL, "email", lambda _, length=length: "x" * length)
        assert isinstance(message, Message)
        assert bool(message.headers) is there


def test_sound_and_badge_come_from_the_template() -> None:
    """An empty one is none, so a condition may stand there."""
    message = made(PUSH | {"sound": "gong.caf", "badge": "{% if flight %}3{% endif %}"}, "apns")
    assert isinstance(message, Message)
    assert (message.content.sound, message.content.badge) == ("gong.caf", 3)
    message = made(PUSH | {"sound": "", "badge": "{% if false %}3{% endif %}"}, "apns")
    assert isinstance(message, Message)
    assert (message.content.sound, message.content.badge) == (None, None)


@pytest.mark.parametrize("badge", ["{{ flight }}", "-1", "1.5", "100000", "٣"])
def test_a_badge_that_is_no_number_is_a_dead_letter_with_its_place(badge: str) -> None:
    """And never a push that a phone shows wrongly."""
    found = made(PUSH | {"badge": badge}, "apns")
    assert isinstance(found, Unrenderable)
    assert str(found).startswith("flight.cancelled v3 apns/en badge line 0: ")
