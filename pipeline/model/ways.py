"""Which of a channel's providers takes a delivery. Pure.

Providers stand in an order, each with a weight: the part of the deliveries that are meant for it while all
are well. 0 is a stand-by, which takes over only. A provider that is unwell has the share 0; one that has
come back has a small share of what is meant for it, which grows. What it does not get goes to the next of
the order.

Every delivery keeps its point, a number made of its id: nobody draws lots. So the same delivery under the
same shares goes the same way, in every process; and when a share grows, deliveries move to that provider
alone, and none between two others.
"""

from collections.abc import Sequence
from zlib import crc32

_SPAN = 1 << 32
_SPREAD = 0x9E3779B1  # odd, Knuth's golden ratio: a second number of the point, unlike the first


def point(delivery_id: str) -> int:
    """The delivery's point, from 0 to 2^32 - 1."""
    return crc32(delivery_id.encode())


def choose(weights: Sequence[float], shares: Sequence[float], at: int) -> int | None:
    """The place in the order of the provider that takes the delivery at this point; None when all have 0.

    Of a provider with nobody to give the rest to, the share is not heeded: nothing waits for a share to grow.
    """
    meant = _meant(weights, at)
    order = [meant, *(place for place in range(len(weights)) if place != meant)]
    for place in order:
        if shares[place] >= 1 or _turn(at, place) < shares[place]:
            return place
    return next((place for place in order if shares[place] > 0), None)


def _meant(weights: Sequence[float], at: int) -> int:
    """For whom it is meant while all are well; the first when nobody has a weight."""
    left = at / _SPAN * sum(weights)
    for place, weight in enumerate(weights):
        if left < weight:
            return place
        left -= weight
    return 0


def _turn(at: int, place: int) -> float:
    """When this delivery's turn comes while the provider's share grows from 0 to 1."""
    return at * (2 * place + 1) * _SPREAD % _SPAN / _SPAN
