"""Stencils: the bytes of records that are the same but for a few values.

A record with marks in the place of these values is encoded once and cut at the marks; every other one is
made by filling in. What a mark is must be told from everything else by its bytes: a record in which one
is not found exactly once makes no stencil.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from itertools import pairwise


@dataclass(frozen=True, slots=True)
class Stencil:
    """Bytes with blanks."""

    constants: tuple[bytes, ...]  # what stands before, between and after the blanks
    places: tuple[int, ...]  # of the blanks' values, in the order of the blanks
    _form: bytes = field(init=False, repr=False)  # for %, with one %b a blank

    def __post_init__(self) -> None:
        form = b"%b".join(constant.replace(b"%", b"%%") for constant in self.constants)
        object.__setattr__(self, "_form", form)

    def fill(self, values: Sequence[bytes]) -> bytes:
        """The bytes with these values, which stand as the marks stood in `cut`."""
        return self._form % tuple([values[place] for place in self.places])


def cut(record: bytes, marks: Sequence[bytes | None], wanted: Collection[int]) -> Stencil | None:
    """A stencil with a blank for each mark (None: no mark) that stands in the record.

    None when one of `wanted`, by its place in `marks`, is missing, or when any mark stands there twice or
    in another: then another value looks like a mark, and nobody can tell which is which.
    """
    found: list[tuple[int, int, int]] = []  # (begin, end, place)
    for place, mark in enumerate(marks):
        if mark and (begin := record.find(mark)) >= 0:
            if record.find(mark, begin + 1) >= 0:
                return None
            found.append((begin, begin + len(mark), place))
    found.sort()
    order = tuple(place for _, _, place in found)
    overlap = any(end > begin for (_, end, _), (begin, _, _) in pairwise(found))
    if overlap or not set(wanted) <= set(order):
        return None
    ends, begins = [0, *(end for _, end, _ in found)], [*(begin for begin, _, _ in found), len(record)]
    return Stencil(tuple(record[end:begin] for end, begin in zip(ends, begins, strict=True)), order)
