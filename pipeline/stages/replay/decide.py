"""What becomes of a letter. Pure.

The first gate that has something to say decides; what the notification log knows comes before what
time and operators say, so that a letter that was sent again is never explained by something else.
A real run leaves the user's consent to the sender, which asks for it right before the request: an answer
given here would be an older one. A dry run asks for it, because nobody else does.
"""

from pipeline.model.catalogue import Category
from pipeline.model.dead import Letter
from pipeline.model.event import Channel
from pipeline.model.preferences import allows
from pipeline.model.profile import Profile
from pipeline.model.replay import Claim, Fate, Sketch, Standing, Terms
from pipeline.model.topics import DEAD, HOLDS, RELEASED
from pipeline.model.window import PLACES

Reason = tuple[Fate, str]
_SENT: Reason = ("sent", "")


def claim_of(letter: Letter, sketch: Sketch | None, range: int) -> Claim:
    """How a run takes the letter: by its place when it is no delivery, or one whose id is no text of ours."""
    if sketch is None or sketch.kind != "delivery" or not sketch.delivery_id.isprintable():
        return Claim(letter.place, 0, range, letter.offset)
    return Claim(sketch.delivery_id, failed_attempt(letter, sketch), range, letter.offset)


def waits(letter: Letter) -> bool:
    """Whether it is no dead letter: it waits in a retry tier for its next attempt."""
    return letter.topic != DEAD


def failed_attempt(letter: Letter, sketch: Sketch | str) -> int:
    """The latest attempt that was made; who waits in a tier is numbered as the one that is to come."""
    if isinstance(sketch, str) or sketch.kind != "delivery":
        return 0
    return sketch.attempt - 1 if waits(letter) else sketch.attempt


def router_place(letter: Letter, sketch: Sketch | None) -> tuple[str, int] | None:
    """Topic and partition number in which the router reads it again; None: it is a sender's.

    A hold goes where the hold stage would have released it to: the router that held it owns that number.
    """
    if letter.topic in PLACES:
        return letter.topic, letter.partition
    if letter.topic == HOLDS:
        return RELEASED, letter.partition
    if sketch is not None and sketch.kind == "event":
        return letter.origin, int(letter.fact("partition") or -1)
    return None


def judge(  # noqa: PLR0911 - one answer for each gate
    letter: Letter, sketch: Sketch | str, standing: Standing | None, terms: Terms, *, recall: str, now: int
) -> Reason:
    """The fate of a letter that is to be sent again, and why.

    `sketch`: what it says, or why nobody can read it, which is no reason where the router says so itself. `standing`: None when nothing is known that could stop it. `recall`: the evidence of an order that
    stops it, or empty. `now`: milliseconds since 1970, UTC.
    """
    if isinstance(sketch, str) and letter.topic not in PLACES:
        return "unreadable", sketch
    if standing is not None and (known := _known(failed_attempt(letter, sketch), standing)) is not None:
        return known
    if isinstance(sketch, str):
        return _SENT
    if sketch.kind == "event" and letter.fact("disposition") == "invalid":
        return "invalid", "the router has refused the event: publish it mended, under a new id"
    if max(letter.replays, 0 if standing is None else standing.replays) >= terms.most:
        return "looping", f"was replayed {terms.most} times before"
    if not terms.over and (over := _over(sketch, terms, recall, now)) is not None:
        return over
    if not terms.uncertain and letter.fact("disposition") == "uncertain":
        return "uncertain", "it may have gone out"
    return _SENT


def judge_discard(letter: Letter, sketch: Sketch | str, standing: Standing | None) -> Reason:
    """The fate of a letter that is to stay dead, or that waits and is not to be sent any more."""
    if waits(letter) and isinstance(sketch, str):
        return "unreadable", sketch  # the retry stage gives it up by itself
    if waits(letter) and isinstance(sketch, Sketch) and standing is not None:
        known = _known(failed_attempt(letter, sketch), standing)
        if known is not None and known[0] in ("delivered", "superseded"):
            return known
    if standing is None or standing.mine:
        return "discarded", ""
    if standing.discarded:
        return "replayed", f"run {standing.claimed_by} has discarded it"
    if standing.claimed_by:
        return "replayed", f"run {standing.claimed_by} has sent it again"
    return "discarded", ""


def unwanted(
    sketch: Sketch, profile: Profile | None, category: Category | None, *, as_of_decision: bool = False
) -> str:
    """Why the user is not sent this any more; empty: it is welcome. As the sender will ask."""
    if sketch.channel == "":
        return ""  # an event: the router will ask
    if profile is None:
        return "the user is unknown by now"
    asked = category or Category(name=sketch.category, required=sketch.required)
    answer = allows(profile, asked, sketch.channel)
    if not answer.allowed and not (as_of_decision and profile.enabled):
        return answer.reason
    return _no_address(profile, sketch.address_id, sketch.channel)


def _over(sketch: Sketch, terms: Terms, recall: str, now: int) -> Reason | None:
    if sketch.expires_at is not None and sketch.expires_at <= now and "expires_at" not in terms.edits:
        return "expired", "its time is over"
    return ("recalled", recall) if recall else None


def _known(failed: int, standing: Standing) -> Reason | None:
    if standing.delivered:
        return "delivered", "the notification log knows that it arrived"
    if standing.claimed_by and not standing.mine:
        if standing.discarded:
            return "discarded", f"by run {standing.claimed_by}"
        return "replayed", f"by run {standing.claimed_by}"
    if standing.attempt > failed and not standing.mine:
        return "superseded", f"attempt {standing.attempt} is known, this follows attempt {failed}"
    return None


def _no_address(profile: Profile, address_id: str, channel: Channel) -> str:
    for address in profile.addresses:
        if address.address_id == address_id and address.channel == channel:
            return f"suppression list: {address.suppressed}" if address.suppressed else ""
    return "the address is no longer active"
