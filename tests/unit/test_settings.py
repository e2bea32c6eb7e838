"""Settings: one variable exchanges the provider of one channel."""

import pytest

from pipeline.model.errors import ConfigurationError
from pipeline.settings import connector_options, load


def test_one_variable_exchanges_one_provider(monkeypatch: pytest.MonkeyPatch) -> None:
    """SMS by Twilio instead of Vonage is a word; the other channels keep theirs."""
    usual = dict(load().providers)
    monkeypatch.setenv("EVERPOST_PROVIDERS", '{"sms": "twilio"}')
    assert load().providers == usual | {"sms": {"twilio": 1}}
    assert usual["sms"] == {"vonage": 1}


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ('["twilio", "vonage"]', [("twilio", 1), ("vonage", 0)]),
        ('{"twilio": 9, "vonage": 1}', [("twilio", 9), ("vonage", 1)]),
    ],
)
def test_a_channel_has_providers_in_an_order(
    monkeypatch: pytest.MonkeyPatch, text: str, found: list[tuple[str, int]]
) -> None:
    """A list is the first with its stand-bys; an object gives weights."""
    monkeypatch.setenv("EVERPOST_PROVIDERS", f'{{"sms": {text}}}')
    assert list(load().providers["sms"].items()) == found


_NO_PROVIDERS = ("1", "{}", "[]", "[1]", '{"a": 0}', '{"a": "1"}', '{"a": -1}', '""')


@pytest.mark.parametrize(
    "text", ["twilio", '["twilio"]', '{"sim": "twilio"}', *(f'{{"sms": {one}}}' for one in _NO_PROVIDERS)]
)
def test_providers_that_are_none_are_named(monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    """A mistake stops the start, with the setting's name."""
    monkeypatch.setenv("EVERPOST_PROVIDERS", text)
    with pytest.raises(ConfigurationError, match="providers"):
        load()


def test_a_connector_gets_its_own_options() -> None:
    """Prefix removed, lower case."""
    environment = {"EVERPOST_CONNECTOR_TWILIO_AUTH_TOKEN": "t", "EVERPOST_CONNECTOR_VONAGE_API_KEY": "k"}
    assert connector_options("twilio", environment) == {"auth_token": "t"}
