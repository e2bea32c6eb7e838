"""Templates rendered by python-liquid, with every limit that it has, and two that it has not.

A template is a program that somebody else wrote: its loops, its output and its memory are bounded, so
that the worst one costs milliseconds and ends as `Unrenderable`. What may stand in a template at all is
checked when the catalogue is loaded (`adapters/files/catalogue.py`).
"""

import functools
import re
from collections.abc import Callable, Mapping
from typing import Any

from liquid import BoundTemplate, Environment, StrictUndefined
from liquid.exceptions import FilterArgumentError, LiquidError

from pipeline.adapters.render.plain import Plain, plain
from pipeline.model.event import Value
from pipeline.model.template import Template, Unrenderable

_OUTPUT = 100 * 1024  # bytes of one part: Gmail clips a mail at 102 kB
_CACHED = 4_096  # parsed parts; one is about 10 kB
_BREAKS = re.compile(r"\s*[\r\n\v\f\x1c-\x1e\x85\u2028\u2029]+\s*")  # what str.splitlines breaks at
_TWO_LINES = 2
_ONE_LINE = frozenset(
    {"title", "subject", "link", "image", "sound", "badge"}
)  # headers and URLs: a line break injects
# Beyond Liquid's own errors, what its filters raise on values that they did not expect.
_FAILURES = (LiquidError, ArithmeticError, AttributeError, LookupError, TypeError, ValueError)


class _Limited(Environment):
    block_nesting_limit = 20
    context_depth_limit = 20
    loop_iteration_limit = 1_000
    local_namespace_limit = 64 * 1024
    output_stream_limit = _OUTPUT


class Liquid:
    """Renders templates; parsed ones are kept."""

    def __init__(self) -> None:
        self._environments = {html: _environment(html=html) for html in (False, True)}
        self._parsed = functools.lru_cache(_CACHED)(self._parse)

    def render(self, template: Template, data: Mapping[str, Value]) -> Mapping[str, str] | Unrenderable:
        """The rendered parts by name, or why there are none.

        `html` is escaped; a part that becomes a header or a URL has no line breaks.
        """
        words: dict[str, str] = {}
        for part, source in template.parts.items():
            try:
                text = self._text(source, data, html=part == "html")
            except _FAILURES as error:
                return _unrenderable(template, part, error)
            if part in _ONE_LINE and len(text.splitlines()) >= _TWO_LINES:
                text = _BREAKS.sub(" ", text)
            words[part] = text.strip()
        return words

    def _text(self, source: str, data: Mapping[str, Value], *, html: bool) -> str:
        parsed, simple = self._parsed(source, html=html)
        if simple is not None:
            try:
                text = simple.render(data)
            except _FAILURES:
                text = None  # the general way says where
            if text is not None:
                return text
        return parsed.render(data)

    def _parse(self, source: str, *, html: bool) -> tuple[BoundTemplate, Plain | None]:
        parsed = self._environments[html].from_string(source)
        return parsed, plain(parsed, html=html, limit=_OUTPUT)


def _environment(*, html: bool) -> Environment:
    environment = _Limited(undefined=StrictUndefined, autoescape=html)
    for name in ("join", "replace"):
        environment.add_filter(name, _bounded(environment.filters[name]))
    return environment


def _bounded(filter: Callable[..., Any]) -> Callable[..., Any]:
    """A filter that multiplies lengths, refused before it builds more than a part may have.

    The output limit counts what is written; a chain of `replace` would build 10^10 bytes before that.
    """

    @functools.wraps(filter)
    def bounded(value: object, *args: object, **options: object) -> Any:
        longest = max((len(str(arg)) for arg in args), default=0)
        if len(str(value)) * (longest + 1) > 10 * _OUTPUT:
            raise FilterArgumentError("makes a text that is too long", token=None)
        return filter(value, *args, **options)

    return bounded


def _unrenderable(template: Template, part: str, error: Exception) -> Unrenderable:
    where = f"{template.type} v{template.version} {template.channel}/{template.locale} {part}"
    if not isinstance(error, LiquidError):  # its text may hold a value of the data
        return Unrenderable(template=where, line=0, message=f"a filter failed with {type(error).__name__}")
    context = error.context()
    return Unrenderable(template=where, line=context[0] if context else 0, message=str(error.message))
