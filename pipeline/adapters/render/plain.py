"""Templates of words and variables alone, which is nearly all of them: a sixth of the time of the general way.

`{{ flight }} is cancelled` needs no scopes, no loops and no memory of its own. Such a part is taken apart
once, into texts and places; then rendering is looking up and joining. Whatever is out of the ordinary, in
the template (a tag, a path, a filter with arguments) or in the data (a variable that is missing, a list, a
text too long, an error of a filter), gives None, and the general way renders it or says what is wrong.
A property test holds the two against each other.
"""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from liquid import BoundTemplate, escape
from liquid.ast import Node
from liquid.builtin.content import ContentNode
from liquid.builtin.expressions import FilteredExpression, Path
from liquid.builtin.output import OutputNode

from pipeline.model.event import Value

_SHADOWED = "partial"  # Liquid's own variable in every template
_Filter = Callable[[str], object]
_Place = tuple[str, tuple[_Filter, ...]]  # a variable, and what is done to its text


class Plain:
    """A part that is plain: `texts[0] places[0] texts[1] …`."""

    def __init__(self, steps: list[str | _Place], *, html: bool, limit: int) -> None:
        self._steps = steps
        self._html = html
        self._limit = limit // 4  # characters, of at most four bytes each

    def render(self, data: Mapping[str, Value]) -> str | None:
        """The text; None when it takes the general way."""
        found: list[str] = []
        for step in self._steps:
            if isinstance(step, str):
                found.append(step)
                continue
            name, filters = step
            value: object = data.get(name)
            if type(value) is not str:
                if type(value) is not int:
                    return None
                value = str(value)
            for filter in filters:
                value = filter(value)
                if type(value) is not str:
                    return None
            found.append(escape(value) if self._html else value)
        text = "".join(found)
        # The general way writes line breaks of Windows as \n.
        return None if len(text) > self._limit or "\r" in text else text


def plain(template: BoundTemplate, *, html: bool, limit: int) -> Plain | None:
    """The parsed template, when it is plain. `limit`: bytes that a part may have."""
    steps = [_step(node, template.env.filters, template.env, html=html) for node in template.nodes]
    known = [step for step in steps if step is not None]
    return Plain(known, html=html, limit=limit) if len(known) == len(steps) else None


def _step(node: Node, filters: Mapping[str, Any], environment: object, *, html: bool) -> str | _Place | None:
    if type(node) is ContentNode:
        return node.text
    expression = node.expression if type(node) is OutputNode else None
    if type(expression) is not FilteredExpression or type(expression.left) is not Path:
        return None
    name = expression.left.path
    if len(name) != 1 or not isinstance(name[0], str) or name[0] == _SHADOWED:
        return None
    given = expression.filters or ()
    # A filter may give markup where texts are escaped.
    if any(one.args for one in given) or (given and html) or not all(one.name in filters for one in given):
        return None
    found = [_filter(filters[one.name], environment) for one in given]
    return None if None in found else (name[0], tuple(one for one in found if one is not None))


def _filter(filter: Any, environment: object) -> _Filter | None:
    if getattr(filter, "with_context", False):
        return None
    return partial(filter, environment=environment) if getattr(filter, "with_environment", False) else filter
