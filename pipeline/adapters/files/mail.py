"""The HTML of a mail as mail programs show it alike: MJML compiled, CSS written into the elements.

Done once, when the catalogue is loaded; at a send there is only Liquid to render. MJML and HTML parsers know no
Liquid: they move a `{% for %}` out of a table and stop at the `<` in `{% if a < b %}`. So every tag is shielded
meanwhile, by a word in attributes and by a comment elsewhere, and each must come back where it was.
"""

import re
from collections.abc import Callable, Sequence
from functools import cache
from html.parser import HTMLParser

import css_inline
import mjml

# https://documentation.mjml.io, without mj-include, which reads files, and mj-html-attributes, which the compiler has not.
_KNOWN = frozenset(
    [
        "mjml",
        "mj-head",
        "mj-attributes",
        "mj-all",
        "mj-class",
        "mj-breakpoint",
        "mj-font",
        "mj-preview",
        "mj-style",
        "mj-title",
        "mj-body",
        "mj-accordion",
        "mj-accordion-element",
        "mj-accordion-title",
        "mj-accordion-text",
        "mj-button",
        "mj-carousel",
        "mj-carousel-image",
        "mj-column",
        "mj-divider",
        "mj-group",
        "mj-hero",
        "mj-image",
        "mj-navbar",
        "mj-navbar-link",
        "mj-raw",
        "mj-section",
        "mj-social",
        "mj-social-element",
        "mj-spacer",
        "mj-table",
        "mj-text",
        "mj-wrapper",
    ]
)
_LIQUID = re.compile(r"\{\{.*?\}\}|\{%.*?%\}", re.DOTALL)
_WORD = "lq{}ql"
_SHIELD = re.compile(r"(?:<!--|&lt;!--)?lq(\d+)ql(?:-->|--&gt;)?")
# What is no text of the page: comments, whole style sheets, tags.
_MARKUP = re.compile(r"<!--.*?-->|<style\b.*?</style\s*>|<[^>]*>", re.DOTALL | re.IGNORECASE)
_STYLE = re.compile(r"<style\b.*?</style\s*>", re.DOTALL | re.IGNORECASE)
_TAG = re.compile(r"</?\s*(mj[\w-]*)", re.IGNORECASE)


class BadMarkup(Exception):
    """The part cannot become a mail."""

    def __init__(self, line: int, message: str, fix: str) -> None:
        super().__init__(message)
        self.line = line
        self.message = message
        self.fix = fix


def from_mjml(source: str) -> str:
    """The HTML of MJML with Liquid in it. Raises BadMarkup."""
    for found in _TAG.finditer(source):
        if found[1] not in _KNOWN:  # the compiler drops it without a word
            fix = (
                "write it in place"
                if found[1] == "mj-include"
                else "see documentation.mjml.io for the others"
            )
            raise BadMarkup(_line(source, found.start()), f"<{found[1]}> is not known", fix)
    return _shielded(source, _compiled)


def _compiled(shielded: str) -> str:
    try:
        # No fonts of another host: they would tell it who reads the mail.
        return mjml.mjml2html(shielded, fonts={})
    except ValueError as error:
        raise BadMarkup(1, f"MJML: {error}", "correct the markup") from error


def inlined(source: str) -> str:
    """HTML with Liquid in it, its style sheets written into the elements too. Raises BadMarkup."""
    return _shielded(source, lambda shielded: shielded) if _STYLE.search(source) else source


def _shielded(source: str, compile: Callable[[str], str]) -> str:
    tags = list(_LIQUID.finditer(source))
    numbers = iter(range(len(tags)))
    html = compile(_LIQUID.sub(lambda _: _WORD.format(next(numbers)), source))
    for sheet in _STYLE.findall(html):
        if found := _SHIELD.search(sheet):
            raise _misplaced(source, tags[int(found[1])], "in a style sheet", "put it into a style attribute")
    if found := _SHIELD.search(" ".join(_names(html))):
        raise _misplaced(
            source, tags[int(found[1])], "between attributes", "put it into an attribute's value"
        )
    html = _inliner().inline(_commented(html))
    _check_order(source, tags, [int(number) for number in _SHIELD.findall(html)])
    return _SHIELD.sub(lambda found: tags[int(found[1])][0], html)


class _Names(HTMLParser):
    """Collects the names of elements and attributes."""

    def __init__(self) -> None:
        super().__init__()
        self.found = list[str]()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found += [tag, *(name for name, _ in attrs)]


def _names(html: str) -> Sequence[str]:
    parser = _Names()
    parser.feed(html)
    parser.close()
    return parser.found


def _commented(html: str) -> str:
    """Shields in the text as comments, which a table may hold anywhere."""
    parts = list[str]()
    end = 0
    for markup in _MARKUP.finditer(html):
        parts += [_SHIELD.sub(r"<!--\g<0>-->", html[end : markup.start()]), markup[0]]
        end = markup.end()
    return "".join([*parts, _SHIELD.sub(r"<!--\g<0>-->", html[end:])])


def _check_order(source: str, tags: Sequence[re.Match[str]], came_back: Sequence[int]) -> None:
    """Everything came back, and the tags that open and close came in their order."""
    where, fix = "where the markup has no place for it", "put it around or inside an element"
    for number, tag in enumerate(tags):
        if number not in came_back:
            raise _misplaced(source, tag, where, fix)
    acting = [number for number in dict.fromkeys(came_back) if tags[number][0].startswith("{%")]
    for first, second in zip(acting, sorted(acting), strict=True):
        if first != second:
            raise _misplaced(source, tags[second], where, fix)


def _misplaced(source: str, tag: re.Match[str], where: str, fix: str) -> BadMarkup:
    return BadMarkup(_line(source, tag.start()), f"{tag[0]} stands {where}", fix)


def _line(source: str, position: int) -> int:
    return source.count("\n", 0, position) + 1


@cache
def _inliner() -> css_inline.CSSInliner:
    # The sheets stay: what hides in a Liquid value or a media query is found only by the reader's program.
    return css_inline.CSSInliner(keep_style_tags=True, keep_link_tags=True, load_remote_stylesheets=False)
