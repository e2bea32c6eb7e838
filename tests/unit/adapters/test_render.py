"""Rendering: same words, escaped where they must be, and bounded."""

import time
from collections.abc import Mapping

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.adapters.render.liquid import Liquid
from pipeline.model.event import Value
from pipeline.model.template import Template, Unrenderable

LIQUID = Liquid()


def template(**parts: str) -> Template:
    """An e-mail template with these parts."""
    return Template(type="flight.delayed", version=2, channel="email", locale="en", parts=parts)


def rendered(data: Mapping[str, Value], **parts: str) -> Mapping[str, str]:
    """The parts, which must render."""
    words = LIQUID.render(template(**parts), data)
    assert not isinstance(words, Unrenderable), words
    return words


def test_html_is_escaped_and_text_is_not() -> None:
    """A name with markup is text in every part."""
    words = rendered(
        {"who": "<b>Bob</b> & 'Co'"}, text="{{ who }}", html='<i title="{{ who }}">{{ who }}</i>'
    )
    assert words["text"] == "<b>Bob</b> & 'Co'"
    assert "<b>" not in words["html"]
    assert "'" not in words["html"].removeprefix("<i").removesuffix("</i>")


@given(st.text())
def test_no_line_break_reaches_a_header(value: str) -> None:
    """Whatever a variable holds, subject and title stay one line."""
    for text in rendered({"x": value}, subject="a {{ x }} b", title="{{ x }}", link="{{ x }}").values():
        assert len(text.splitlines()) <= 1


@given(st.text(), st.integers(), st.booleans())
def test_the_same_again(text: str, number: int, flag: bool) -> None:
    """Rendering is a function of template and data."""
    source = "{% if f %}{{ t }}{% else %}{{ n | times: 2 }}{% endif %}"
    data: dict[str, Value] = {"t": text, "n": number, "f": flag}
    assert rendered(data, text=source) == Liquid().render(template(text=source), data)


def test_a_missing_variable_is_named() -> None:
    """The error says template, part, line and variable, and no value of the data."""
    failed = LIQUID.render(template(text="Hello\n{{ gate }}"), {"code": "secret"})
    assert failed == Unrenderable(
        template="flight.delayed v2 email/en text", line=2, message="'gate' is undefined"
    )
    assert str(failed) == "flight.delayed v2 email/en text line 2: 'gate' is undefined"


@pytest.mark.parametrize(
    "source",
    [
        "{% for a in (1..100000000) %}x{% endfor %}",  # loops
        "{% for a in (1..900) %}{% for b in (1..900) %}x{% endfor %}{% endfor %}",  # nested loops
        "{% assign a = 'x' %}{% for i in (1..60) %}{% assign a = a | append: a %}{% endfor %}",  # memory
        "{% for i in (1..1000) %}{{ long }}{% endfor %}",  # output
        "{{ long | replace: 'a', long | replace: 'a', long | replace: 'a', long }}",  # multiplied in a chain
        "{{ long | split: '' | join: long }}",
        "{% if true %}" * 40 + "{% endif %}" * 40,  # nesting
        "{{ 7 | divided_by: 0 }}",
        "{{ long | times: 1e308 | times: 1e308 | round }}",
        "{% render 'other' %}",
        "{{ long | nosuch }}",
        "{{ long",
    ],
)
def test_every_bad_template_ends_soon(source: str) -> None:
    """A template that would run away, or is broken, costs less than a second and is a value, not an error."""
    began = time.monotonic()
    words = LIQUID.render(template(text=source), {"long": "a" * 2000})
    assert isinstance(words, Unrenderable) or len(words["text"]) <= 100 * 1024
    assert time.monotonic() - began < 1.0
