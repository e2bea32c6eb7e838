"""The watch's loop: one process tells, once, what is new and what is settled."""

import asyncio
from collections.abc import Callable
from datetime import timedelta

from structlog.testing import capture_logs

from pipeline.model.errors import DependencyDown
from pipeline.model.ledger import balance
from pipeline.model.watch import Stuck, Survey
from pipeline.observe import Meter
from pipeline.stages.account.watch import run
from tests.support.make import NOW
from tests.unit.model.test_ledger import BOOKS, ENDS

LOST = Stuck(
    kind="delivery",
    subject="d-1",
    since=NOW,
    topic="notification.deliver.sms.normal",
    written=NOW,
    queued=False,
)
LATER = Stuck(kind="held", subject="x/0/1", since=NOW + timedelta(1), topic="timer", written=NOW, queued=True)


class Lead:
    """Whoever the script says."""

    def __init__(self, *mine: bool) -> None:
        self.mine_next = list(mine)

    async def mine(self) -> bool:
        """The next word of the script, then yes."""
        return self.mine_next.pop(0) if self.mine_next else True


def found(*stuck: Stuck) -> Survey:
    """A look."""
    return Survey(ledger=balance(BOOKS, ENDS), stuck=stuck)


async def told(lead: Lead, *looks: Survey | Exception) -> list[tuple[str, str]]:
    """(event, subject) of what is logged during these looks."""
    stop, script = asyncio.Event(), list(looks)

    async def look() -> Survey:
        answer = script.pop(0)
        if not script:
            stop.set()
        if isinstance(answer, Exception):
            raise answer
        return answer

    with capture_logs() as logs:
        await run(look, lead, stop=stop, every=0.0001, meter=Meter())
    subject: Callable[[dict[str, str]], str] = lambda line: line.get("subject", "")  # noqa: E731
    return [(line["event"], subject(dict(line))) for line in logs]


async def test_a_thing_is_told_once_and_once_that_it_is_settled() -> None:
    """The same again is no news."""
    assert await told(Lead(), found(LOST), found(LOST, LATER), found(LATER)) == [
        ("ledger.stuck", "delivery d-1"),
        ("ledger.stuck", "held on timer"),
        ("ledger.settled", "delivery d-1"),
    ]


async def test_who_does_not_lead_tells_nothing() -> None:
    """And who takes over tells all of it."""
    assert await told(Lead(False, False), found(LOST)) == [("ledger.stuck", "delivery d-1")]


async def test_a_look_that_cannot_be_had_settles_nothing() -> None:
    """Kafka is away: told once, and what was known stays so."""
    away = DependencyDown("away for the test")
    assert await told(Lead(), found(LOST), away, away, found(LOST)) == [
        ("ledger.stuck", "delivery d-1"),
        ("dependency.down", ""),
        ("dependency.back", ""),
    ]
