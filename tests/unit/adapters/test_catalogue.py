"""The catalogue directory: what is right is loaded, every slip is named with file, key and fix."""

from datetime import timedelta
from pathlib import Path

import pytest

from pipeline.adapters.files.catalogue import Loaded, load
from pipeline.adapters.render.liquid import Liquid
from pipeline.model.catalogue import Cap
from pipeline.model.errors import ConfigurationError
from pipeline.model.event import CHANNELS, Value
from pipeline.model.template import UNSUBSCRIBE, Unrenderable, choose_locale

DEMO = Path(__file__).parents[3] / "infra" / "demo" / "catalogue"
VALUES: dict[str, Value] = {"string": "UA 1545", "integer": 200, "number": 1.5, "boolean": True}

CATEGORIES = "[flights]\n[security]\nrequired = true\n"
TYPE = """
category = "flights"
channels = ["apns", "sms", "email"]
locales = ["en"]
time_to_live = "90m"
[variables]
flight = "string"
gate = "string?"
"""
WORDS = """
[push]
title = "{{ flight }}"
text = "{% if gate %}{{ gate }}{% endif %}"
[sms]
text = "{{ flight | upcase }}"
[email]
subject = "{{ flight }}"
text = "{{ flight }}"
"""


def write(home: Path, *, categories: str = CATEGORIES, type: str = TYPE, words: str = WORDS) -> Path:
    """A catalogue of one type."""
    (home / "flight.late" / "v1").mkdir(parents=True)
    (home / "categories.toml").write_text(categories)
    (home / "flight.late" / "type.toml").write_text(type)
    (home / "flight.late" / "v1" / "en.toml").write_text(words)
    return home


@pytest.fixture(scope="module")
def demo() -> Loaded:
    """The demo's catalogue."""
    return load(DEMO)


def test_demo_has_words_for_everything(demo: Loaded) -> None:
    """Every type of the demo renders in every language on every channel, with and without what is optional."""
    liquid = Liquid()
    for kind in demo.types.values():
        full = {name: VALUES[variable.kind] for name, variable in kind.variables.items()}
        full[UNSUBSCRIBE] = "https://example.com/u/TOKEN"
        bare = {name: full[name] if variable.required else None for name, variable in kind.variables.items()}
        bare[UNSUBSCRIBE] = None
        for locale in kind.locales:
            for channel in kind.channels:
                template = demo.templates.get(kind.name, kind.template_version, channel, locale)
                assert template is not None
                for data in (full, bare):
                    words = liquid.render(template, data)
                    assert not isinstance(words, Unrenderable), words
                    assert all(words.values())


def test_demo_categories(demo: Loaded) -> None:
    """Codes pass an opt-out and go first; offers go last, and by SMS only to those who asked."""
    code, offer = demo.types["account.code"], demo.types["offer.weekend"]
    assert (code.category.required, code.lane) == (True, "urgent")
    assert (offer.lane, offer.category.on_by_default) == ("bulk", frozenset(CHANNELS) - {"sms"})
    assert choose_locale("pt-BR", demo.types["flight.delayed"].locales) == "pt"


def test_push_channels_share_words_unless_they_have_their_own(tmp_path: Path) -> None:
    """`[push]` serves all three; a table named after one of them wins for that one."""
    own = WORDS + '[fcm]\ntitle = "own"\ntext = "own"\n'
    templates = load(write(tmp_path, words=own)).templates
    found = {channel: templates.get("flight.late", 1, channel, "en") for channel in CHANNELS}
    assert found["apns"] == found["webpush"]
    assert found["fcm"] is not None
    assert found["fcm"].parts["title"] == "own"
    assert templates.get("flight.late", 2, "sms", "en") is None


def test_mjml_is_compiled_and_knows_the_unsubscribe_link(tmp_path: Path) -> None:
    """What a sender gets is HTML, whichever of the two was written."""
    link = '<mj-text><a href="{{ unsubscribe_url }}">Stop</a></mj-text>'
    source = f"<mjml><mj-body><mj-section><mj-column>{link}</mj-column></mj-section></mj-body></mjml>"
    template = load(write(tmp_path, words=f"{WORDS}mjml = '''{source}'''")).templates.get(
        "flight.late", 1, "email", "en"
    )
    assert template is not None
    assert template.parts.keys() == {"subject", "text", "html"}
    data = {"flight": "UA 1", "gate": None, "unsubscribe_url": "https://example.com/?a&b"}
    words = Liquid().render(template, data)
    assert not isinstance(words, Unrenderable)
    assert '<a href="https://example.com/?a&amp;b">Stop</a>' in words["html"]


def test_durations_and_optional_variables(tmp_path: Path) -> None:
    """`90m` is ninety minutes, `string?` is optional."""
    kind = load(write(tmp_path)).types["flight.late"]
    assert kind.time_to_live.total_seconds() == 5400
    assert [variable.required for variable in kind.variables.values()] == [True, False]


def test_caps_and_choice(tmp_path: Path) -> None:
    """`2 in 7d` is dropped when it is too much, `then hold` waits; `first` takes one channel."""
    caps = '[flights]\n[flights.caps]\nsms = "2 in 7d"\nemail = "3 in 90m, then hold"\n'
    kind = load(write(tmp_path, categories=caps, type='choice = "first"\n' + TYPE)).types["flight.late"]
    assert kind.choice == "first"
    assert kind.category.caps == {
        "sms": Cap(limit=2, window=timedelta(days=7)),
        "email": Cap(limit=3, window=timedelta(minutes=90), then="hold"),
    }


SLIPS = [
    # what is changed, and what the error must name: file, key, fix
    ({"categories": "[flights"}, ("categories.toml", "correct the file")),
    ({"categories": "[flights]\nrequire = true\n"}, ("categories.toml", "flights.require", "remove it")),
    ({"categories": "[flights]\non_by_default = ['fax']"}, ("on_by_default", "'fax'", "apns")),
    ({"categories": "[flights]\n[flights.caps]\nfax = '2 in 7d'"}, ("flights.caps.fax", "remove it")),
    (
        {"categories": "[flights]\n[flights.caps]\nsms = '0 in 7d'"},
        ("flights.caps.sms", "no cap", "2 in 24h"),
    ),
    ({"categories": "[flights]\n[flights.caps]\nsms = '2 in 8d'"}, ("flights.caps.sms", "at most 7d")),
    ({"type": "choice = 'best'\n" + TYPE}, ("type.toml", "choice", "all, first")),
    ({"categories": "[offers]"}, ("type.toml", "category", "use one of: offers")),
    ({"type": TYPE.replace('category = "flights"', "")}, ("type.toml", "category", "is missing")),
    ({"type": TYPE.replace("90m", "90")}, ("type.toml", "time_to_live", "24h")),
    ({"type": TYPE.replace('"sms"', '"fax"')}, ("type.toml", "channels", "'fax'")),
    ({"type": TYPE.replace('["en"]', "[]")}, ("type.toml", "locales", "at least one")),
    ({"type": TYPE.replace('["en"]', '["en", "de"]')}, ("type.toml", "add [push] to v1/de.toml")),
    ({"type": TYPE.replace('"string?"', '"text"')}, ("type.toml", "variables.gate", "string, integer")),
    ({"type": "template_version = true\n" + TYPE}, ("type.toml", "template_version", "give a int")),
    ({"type": "colour = 'red'\n" + TYPE}, ("type.toml", "colour", "remove it")),
    ({"words": WORDS.replace("[sms]", "[fax]")}, ("en.toml", "fax", "push")),
    ({"words": WORDS.replace("subject", "title")}, ("en.toml", "email.subject", "is missing")),
    ({"words": WORDS.replace("{{ gate }}", "{{ gait }}")}, ("en.toml", "push.text", "gait", "flight, gate")),
    ({"words": WORDS.replace("{% endif %}", "")}, ("en.toml", "push.text", "line 1", "correct the template")),
    ({"words": WORDS.replace("upcase", "shout")}, ("en.toml", "sms.text", "shout is no filter")),
    ({"words": WORDS.replace("upcase", "date: '%d'")}, ("en.toml", "sms.text", "replay")),
    ({"words": WORDS.replace("upcase", "safe")}, ("en.toml", "sms.text", "escaping")),
    ({"words": WORDS.replace("{{ flight | upcase }}", "{% include 'x' %}")}, ("en.toml", "sms.text")),
    ({"words": WORDS.replace("upcase }}", "upcase }}{{ unsubscribe_url }}")}, ("sms.text", "no variable")),
    ({"type": TYPE + 'unsubscribe_url = "string"'}, ("variables.unsubscribe_url", "another name")),
    (
        {"words": WORDS + 'mjml = "<mjml><mj-foo/></mjml>"'},
        ("email.mjml", "line 1", "mj-foo", "documentation"),
    ),
    ({"words": WORDS + 'mjml = ""\nhtml = ""'}, ("email.mjml", "keep one")),
    ({"words": WORDS + 'html = "<style></style><p {{ flight }}>"'}, ("email.html", "line 1", "value")),
    ({"words": WORDS + 'mjml = "{{ gait }}"'}, ("email.mjml", "gait", "flight, gate")),
]


@pytest.mark.parametrize(("changes", "named"), SLIPS)
def test_a_slip_is_named(tmp_path: Path, changes: dict[str, str], named: tuple[str, ...]) -> None:
    """Every slip stops the load with file, key and fix."""
    with pytest.raises(ConfigurationError) as caught:
        load(write(tmp_path, **changes))
    for word in named:
        assert word in str(caught.value)


def test_a_missing_directory_is_named(tmp_path: Path) -> None:
    """A path without a catalogue says what is expected there."""
    with pytest.raises(ConfigurationError, match=r"categories\.toml is missing"):
        load(tmp_path / "nowhere")
