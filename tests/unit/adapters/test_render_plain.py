"""The short way of rendering says what the general way says, or nothing."""

from collections.abc import Mapping

import pytest
from hypothesis import given
from hypothesis import strategies as st
from liquid import Environment, StrictUndefined
from liquid.exceptions import LiquidError

from pipeline.adapters.render.plain import plain
from pipeline.model.event import Value

LIMIT = 400  # bytes


class Limited(Environment):
    """An environment with the limit that the short way is told of."""

    output_stream_limit = LIMIT


WAYS = {html: Limited(undefined=StrictUndefined, autoescape=html) for html in (False, True)}

names = st.sampled_from(["a", "b", "missing", "partial"])
filters = st.sampled_from(["upcase", "url_encode", "escape", "strip_html", "size", "split", "times: 2"])
outputs = st.builds(
    lambda name, used: "{{ " + " | ".join([name, *used]) + " }}", names, st.lists(filters, max_size=2)
)
texts = st.sampled_from(["Gate ", "\r\n", "<b>", " → ", ""])
odd = st.sampled_from(
    ["{% if a %}x{% endif %}", "{{ a.b }}", "{{ 'x' }}", "{{ a | append: b }}", "{% assign a = 1 %}"]
)
sources = st.lists(st.one_of(texts, outputs, outputs, odd), max_size=5).map("".join)
value = st.one_of(st.text(max_size=120), st.integers(), st.booleans(), st.none(), st.floats())


@given(source=sources, html=st.booleans(), data=st.fixed_dictionaries({"a": value, "b": value}))
def test_both_ways_say_the_same(source: str, html: bool, data: Mapping[str, Value]) -> None:
    """Where the short way gives a text, the general way gives the same; where that fails, it gives none."""
    parsed = WAYS[html].from_string(source)
    short = plain(parsed, html=html, limit=LIMIT)
    if short is None:
        return
    try:
        text = short.render(data)
    except (LiquidError, TypeError, ValueError):
        text = None
    if text is not None:
        assert text == parsed.render(data)


@pytest.mark.parametrize("source", ["{{ a }}", "to {{ a | url_encode }} by {{ b }}", "words alone", ""])
def test_what_is_usual_goes_the_short_way(source: str) -> None:
    """Words, variables and filters without arguments are plain."""
    short = plain(WAYS[False].from_string(source), html=False, limit=LIMIT)
    assert short is not None
    assert short.render({"a": "UA 1", "b": 7}) == WAYS[False].from_string(source).render(
        {"a": "UA 1", "b": 7}
    )


@pytest.mark.parametrize(
    ("source", "data"),
    [
        ("{{ a }}", {}),
        ("{{ a }}", {"a": "x" * LIMIT}),
        ("{{ a }}", {"a": None}),
        ("{{ a | size }}", {"a": "x"}),
    ],
)
def test_what_is_unusual_in_the_data_takes_the_general_way(source: str, data: Mapping[str, Value]) -> None:
    """A missing variable, a text too long, nil and a number of a filter's are not the short way's business."""
    short = plain(WAYS[False].from_string(source), html=False, limit=LIMIT)
    assert short is None or short.render(data) is None
