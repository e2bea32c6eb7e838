"""An unsubscribe link that somebody follows (RFC 8058): GET shows a page and changes nothing, POST acts.

    1 read     what the link ends; a page says so
    2 off      the preference, in PostgreSQL: the next decision and the next send know it
    3 write    the fact to `notification.engagement`, acknowledged
    4 answer   200, with a page

No cookie, no question, no redirect. Scanners follow links in mails, so GET never acts. A crash before 4, or something
that is away, makes the recipient's program or the recipient do it again, and nothing comes of it twice.
"""

from dataclasses import dataclass
from typing import NamedTuple, Protocol

from pipeline.model.errors import DependencyDown
from pipeline.model.event import user_key
from pipeline.model.record import Outgoing
from pipeline.model.topics import ENGAGEMENT
from pipeline.model.unsubscribe import Subscription, engagement
from pipeline.observe import Log
from pipeline.ports import Clock, Codec, Preferences, Producer
from pipeline.stages.receive import page

_ONE_CLICK = b"List-Unsubscribe=One-Click"
_log = Log(__name__)


class Reader(Protocol):
    """Reads our own links."""

    def read(self, token: str) -> Subscription | None:
        """What a link's last part ends; None when it is none of ours."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Desk:
    """What every visit needs."""

    links: Reader
    preferences: Preferences
    producer: Producer
    wire: Codec
    clock: Clock


class Reply(NamedTuple):
    """Status and page."""

    status: int
    html: str


async def visit(desk: Desk, token: str, body: bytes | None) -> Reply:
    """Answer a visit: `body` is that of a POST, None of a GET."""
    ends = desk.links.read(token)
    if ends is None:
        return Reply(404, page.unknown())
    if body is None:
        return Reply(200, page.question(ends.category))
    try:
        await desk.preferences.opt_out(ends.tenant, ends.user_id, ends.category, ends.channel)
        told = engagement(ends, "one_click" if _ONE_CLICK in body else "page", desk.clock())
        key = user_key(ends.tenant, ends.user_id)
        await desk.producer.send_all([Outgoing(topic=ENGAGEMENT, key=key, value=desk.wire.encode(told))])
    except DependencyDown as error:
        _log.warning("dependency.down", error=str(error))
        return Reply(503, page.later())
    return Reply(200, page.done(ends.category))
