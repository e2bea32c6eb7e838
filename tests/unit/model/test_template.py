"""What a template may name: the same for a send as for `everpost simulate`."""

import pytest

from pipeline.model.catalogue import EventType, Variable
from pipeline.model.event import CHANNELS, Channel
from pipeline.model.template import variables
from tests.support.make import FLIGHTS, event

KIND = EventType(
    name="flight.cancelled",
    category=FLIGHTS,
    channels=CHANNELS,
    variables={"flight": Variable(kind="string"), "gate": Variable(kind="string", required=False)},
)


@pytest.mark.parametrize("channel", CHANNELS)
def test_what_is_optional_is_nil_and_only_a_mail_has_a_link(channel: Channel) -> None:
    """An absent optional variable is no error in a template, an unknown one stays one."""
    found = variables(event(), KIND, channel, "https://example.com/u/TOKEN")
    link = {"unsubscribe_url": "https://example.com/u/TOKEN"} if channel == "email" else {}
    assert found == {"flight": "UA 1018", "gate": None, **link}
    assert variables(event(data={"flight": "1", "gate": "B4"}), KIND, "sms")["gate"] == "B4"
    assert variables(event(), None, "sms") == {"flight": "UA 1018"}
