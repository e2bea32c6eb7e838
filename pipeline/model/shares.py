"""How several relays divide the outbox: by shares, ranges of the hash of `<tenant>/<user_id>`. Pure.

All rows of a user are in one share, and one relay at a time holds a share; so a user's events keep
their order whoever comes and goes.
"""

from collections.abc import Sequence
from collections.abc import Set as AbstractSet

SHARES = 16
"""As many relays can be of use. The table's generated column `share` says the same (0011_shares.sql)."""


def fair(members: Sequence[int], me: int) -> range:
    """The shares that are `me`'s among all who work, each known by its number, in any order.

    Whoever asks with the same members gets ranges that cover every share once and differ in length by
    at most one. Empty when `me` is none of them.
    """
    ranks = sorted(set(members))
    if me not in ranks:
        return range(0)
    rank = ranks.index(me)
    return range(rank * SHARES // len(ranks), (rank + 1) * SHARES // len(ranks))


def change(held: AbstractSet[int], members: Sequence[int], me: int) -> tuple[Sequence[int], Sequence[int]]:
    """What to let go and what to ask for, to come to a fair part: (let go, take)."""
    mine = fair(members, me)
    return sorted(held - set(mine)), [share for share in mine if share not in held]
