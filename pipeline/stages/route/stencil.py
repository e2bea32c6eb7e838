"""Stencils: the bytes of records that are the same but for a few values.

A record with marks in the place of these values is encoded once and cut at the marks; every other one is
made by filling in. What a mark is must be told from everything else by its bytes: a record in which one
is not found exactly once makes no stencil.
"""

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from itertools import pairwise
from operator import itemgetter


@dataclass(frozen=True, slots=True)
class Stencil:
    """Bytes with blanks."""

    form: bytes  # for %, with one %b a blank
    pick: Callable[[Sequence[bytes]], Sequence[bytes]]  # the values of the blanks in their order

    def fill(self, values: Sequence[bytes]) -> bytes:
        """The bytes with these values, which stand as the marks stood in `cut`."""
        return self.form % self.pick(values)


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
    order = [place for _, _, place in found]
    overlap = any(end > begin for (_, end, _), (begin, _, _) in pairwise(found))
    if overlap or len(order) < 2 or not set(wanted) <= set(order):
        return None
    ends, begins = [0, *(end for _, end, _ in found)], [*(begin for begin, _, _ in found), len(record)]
    constant = [record[end:begin] for end, begin in zip(ends, begins, strict=True)]
    return Stencil(b"%b".join(piece.replace(b"%", b"%%") for piece in constant), itemgetter(*order))
