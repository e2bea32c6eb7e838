"""MJML and CSS of mails: compiled once, and Liquid stays where it was, whatever stands around it."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st
from liquid import Environment

from pipeline.adapters.files.mail import BadMarkup, from_mjml, inlined

LIQUID = Environment()
SHEET = "<style>td { color: red } @media print { td { color: blue } }</style>"


def mjml(inside: str) -> str:
    """A mail of one column."""
    column = f"<mj-section><mj-column>{inside}</mj-column></mj-section>"
    return f"<mjml>\n<mj-head><mj-style>.big div {{ letter-spacing: 2px }}</mj-style></mj-head>\n<mj-body>{column}</mj-body></mjml>"


def rows(count: int, before: str, inside: str) -> str:
    """A table whose rows come out of a loop."""
    return (
        f"<html><head>{SHEET}</head><body><p>{before}</p><table><tbody>{{% for one in list %}}"
        f'<tr title="{{{{ one }}}}"><td>{inside}{{{{ one }}}}</td></tr>{{% endfor %}}</tbody></table></body></html>'
    ) * count


def text(html: str) -> str:
    """The words between the tags."""
    return re.sub(
        r"\s+", " ", re.sub(r"<!--.*?-->|<style.*?</style>|<[^>]*>", " ", html, flags=re.DOTALL)
    ).strip()


def test_mjml_becomes_html_with_the_style_in_its_elements() -> None:
    """Compiled, inlined, and no font is asked of another host: it would learn who reads."""
    html = from_mjml(
        mjml('<mj-text css-class="big">Hi {{ name }}</mj-text><mj-button href="{{ link }}">Go</mj-button>')
    )
    assert html.startswith("<!DOCTYPE html>")
    assert "letter-spacing: 2px" in html.rpartition("</style>")[2]
    assert "Hi {{ name }}" in html
    assert 'href="{{ link }}"' in html
    assert "googleapis" not in html


def test_a_loop_and_a_comparison_survive_mjml() -> None:
    """Beside elements too, where an HTML parser would move them out of the table."""
    html = from_mjml(
        mjml("{% for one in list %}<mj-text>{% if one < 3 %}{{ one }}{% endif %}</mj-text>{% endfor %}")
    )
    found = LIQUID.from_string(html).render(list=[1, 2, 3, 4])
    assert text(found) == "1 2"
    assert found.count("<td") == LIQUID.from_string(html).render(list=[1]).count("<td") + 3


@given(
    st.lists(st.sampled_from(["a", "<b>", "&"]), max_size=4),
    st.text(st.sampled_from("ab %}é✈"), max_size=8),
)
def test_inlining_changes_no_word(values: list[str], inside: str) -> None:
    """Rendered before or after, the reader sees the same text; and every cell has its colour."""
    source = rows(1, inside, inside)
    before = LIQUID.from_string(source).render(list=values)
    after = LIQUID.from_string(inlined(source)).render(list=values)
    assert text(after) == text(before)
    assert after.count('style="color: red;"') == len(values)
    assert "@media print" in after


def test_html_without_a_style_sheet_is_left_alone() -> None:
    """Byte for byte: there is nothing to inline."""
    source = "<p {% if a %}class=x{% endif %}>{{ b }}<br/></p>"
    assert inlined(source) == source


def test_a_style_sheet_of_another_host_is_not_fetched() -> None:
    """It stays a link: what it held yesterday is nobody's to promise."""
    source = f'<html><head><link rel="stylesheet" href="http://127.0.0.1:9/x.css">{SHEET}</head><body></body></html>'
    assert "http://127.0.0.1:9/x.css" in inlined(source)


BAD = [
    (from_mjml, mjml("<mj-text>a</mj-text>\n<mj-foo>b</mj-foo>"), 4, "<mj-foo> is not known"),
    (from_mjml, mjml('<mj-include path="/etc/hostname" />'), 3, "<mj-include> is not known"),
    (from_mjml, "<mjml><mj-body>", 1, "MJML: unexpected end"),
    (from_mjml, mjml("<mj-text>a</mj-text>").replace("2px", "{{ much }}"), 2, "stands in a style sheet"),
    (inlined, f"{SHEET}\n<p {{% if a %}}class=x{{% endif %}}>b</p>", 2, "stands between attributes"),
]


@pytest.mark.parametrize(("compile", "source", "line", "words"), BAD)
def test_what_cannot_be_kept_is_refused_with_its_line(
    compile: object, source: str, line: int, words: str
) -> None:
    """An element that the compiler would drop, a file, a broken end, Liquid where it would get lost."""
    assert callable(compile)
    with pytest.raises(BadMarkup) as caught:
        compile(source)
    assert (caught.value.line, words in caught.value.message) == (line, True)
    assert caught.value.fix
