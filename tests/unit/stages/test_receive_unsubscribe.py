"""Unsubscribe links over real HTTP: looking changes nothing, one POST ends it, and nothing is lost while Kafka is away."""

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import partial

import aiohttp
from cryptography.fernet import Fernet

from pipeline.adapters.http.door import door
from pipeline.adapters.links import Links
from pipeline.model.engagement import Engagement
from pipeline.model.errors import DependencyDown
from pipeline.model.event import Channel
from pipeline.model.topics import ENGAGEMENT
from pipeline.model.unsubscribe import Subscription
from pipeline.stages.receive.unsubscribe import Desk, visit
from tests.contract.rigs import sockets, until
from tests.support.memory_kafka import MemoryKafka, MemoryProducer
from tests.support.sending import WIRE, HandClock

LINKS = Links("http://127.0.0.1/u", [Fernet.generate_key().decode()])
HERS = Subscription(tenant="acme", user_id="u-1", category="<offers>", channel="email", delivery_id="d-1")
ONE_CLICK = b"List-Unsubscribe=One-Click"


@dataclass
class Wishes:
    """Who has opted out of what."""

    ended: list[tuple[str, str, str, Channel]] = field(default_factory=list[tuple[str, str, str, Channel]])
    away: bool = False

    async def opt_out(self, tenant: str, user_id: str, category: str, channel: Channel) -> None:
        """Note it."""
        if self.away:
            raise DependencyDown("away for the test")
        self.ended.append((tenant, user_id, category, channel))


@dataclass
class Reception:
    """The door, and what it did."""

    port: int
    kafka: MemoryKafka
    wishes: Wishes
    page: str = ""
    headers: dict[str, str] = field(default_factory=dict[str, str])

    def told(self) -> list[Engagement]:
        """What was written."""
        return [WIRE.decode(Engagement, one.value) for one in self.kafka.read(ENGAGEMENT)]

    async def ask(self, method: str, token: str, body: bytes | None = None) -> int:
        """The status of the answer; the page and its headers are kept."""
        async with (
            aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=60)) as session,
            session.request(method, f"http://127.0.0.1:{self.port}/u/{token}", data=body) as answer,
        ):
            self.page, self.headers = await answer.text(), dict(answer.headers)
            return answer.status


@asynccontextmanager
async def listening() -> AsyncGenerator[Reception]:
    """The stage in memory, but for its door."""
    kafka, wishes = MemoryKafka(HandClock()), Wishes()
    desk = Desk(links=LINKS, preferences=wishes, producer=MemoryProducer(kafka), wire=WIRE, clock=HandClock())
    async with door(None, partial(visit, desk), "127.0.0.1", 0) as port:
        yield Reception(port, kafka, wishes)
    await until(lambda: not sockets(port), 60)  # left open, a later test is blamed


def token() -> str:
    """Of the link in her mail."""
    return LINKS(HERS).rpartition("/")[2]


async def test_looking_changes_nothing() -> None:
    """Scanners follow every link of a mail: GET and HEAD show what would end, and that is all."""
    async with listening() as desk:
        for method in ("GET", "HEAD", "GET"):
            assert await desk.ask(method, token()) == 200
        assert "&lt;offers&gt;" in desk.page
        assert '<form method="post">' in desk.page
        assert "u-1" not in desk.page
        assert (desk.wishes.ended, desk.told()) == ([], [])


async def test_one_click_ends_it_and_is_told_once() -> None:
    """RFC 8058: a POST without cookie or question; used again, it is the same fact."""
    async with listening() as desk:
        link = token()
        assert await desk.ask("POST", link, ONE_CLICK) == 200
        assert await desk.ask("POST", link, ONE_CLICK) == 200
        assert set(desk.wishes.ended) == {("acme", "u-1", "<offers>", "email")}
        first, second = desk.told()
    assert first == second
    assert (first.kind, first.delivery_id, first.user_id) == ("unsubscribe", "d-1", "u-1")
    assert first.facts == {"category": "<offers>", "by": "one_click"}
    assert {one.key for one in desk.kafka.read(ENGAGEMENT)} == {b"acme/u-1"}


async def test_the_button_of_the_page_does_the_same() -> None:
    """Its form is empty, so who clicked is told apart from whose program did."""
    async with listening() as desk:
        assert await desk.ask("POST", token(), b"") == 200
        assert desk.told()[0].facts["by"] == "page"
        assert "No more e-mails" in desk.page


async def test_no_page_is_kept_framed_or_told_of() -> None:
    """The token is a right: caches, other sites and scripts get none of it."""
    async with listening() as desk:
        await desk.ask("GET", token())
        assert desk.headers["Cache-Control"] == "no-store"
        assert desk.headers["Referrer-Policy"] == "no-referrer"
        for word in ("default-src 'none'", "frame-ancestors 'none'", "form-action 'self'"):
            assert word in desk.headers["Content-Security-Policy"]


async def test_a_strange_link_ends_nothing() -> None:
    """Cut off, made up or too long: a page that says what to do; other methods and paths are refused."""
    async with listening() as desk:
        for bad in (token()[:-9], "x", "A" * 5_000):
            assert await desk.ask("POST", bad, ONE_CLICK) == 404
        assert "This link does not work" in desk.page
        assert await desk.ask("DELETE", token()) == 405
        assert await desk.ask("POST", f"../receipts/{token()}", ONE_CLICK) == 404
        assert (desk.wishes.ended, desk.told()) == ([], [])


async def test_while_something_is_away_it_is_said() -> None:
    """503, so that a mail program comes again; then it counts, once."""
    async with listening() as desk:
        link = token()
        desk.wishes.away = True
        assert await desk.ask("POST", link, ONE_CLICK) == 503
        assert "try again" in desk.page
        desk.wishes.away, desk.kafka.down = False, True
        assert await desk.ask("POST", link, ONE_CLICK) == 503
        desk.kafka.down = False
        assert await desk.ask("POST", link, ONE_CLICK) == 200
        assert len(desk.told()) == 1
