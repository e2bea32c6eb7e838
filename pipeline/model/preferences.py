"""Preferences: whether a user wants a category on a channel.

required category             passes every opt-out, and says which one
the global switch is off      a hard stop
category × channel            the user's own word, the most specific first
category
channel
tenant default                the same three levels, said by the tenant for all its users
the category's default        from the catalogue
"""

from dataclasses import dataclass

from pipeline.model.catalogue import Category
from pipeline.model.event import Channel
from pipeline.model.profile import Profile, Wishes


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """Whether it may be sent, and which level of the preferences said so."""

    allowed: bool
    reason: str


def allows(profile: Profile, category: Category, channel: Channel) -> Answer:
    """Ask the levels in their order; the first that has a word decides."""
    answer = _asked(profile, category, channel)
    if not category.required:
        return answer
    if answer.allowed:
        return Answer(allowed=True, reason="required category")
    return Answer(allowed=True, reason=f"required category, passes: {answer.reason}")


def _asked(profile: Profile, category: Category, channel: Channel) -> Answer:
    if not profile.enabled:
        return Answer(allowed=False, reason="global switch is off")
    if (answer := _said(profile.preferences, category.name, channel, "")) is not None:
        return answer
    if (answer := _said(profile.tenant_defaults, category.name, channel, "tenant default: ")) is not None:
        return answer
    default = channel in category.on_by_default
    word = "on" if default else "off"
    return Answer(allowed=default, reason=f"default of {category.name} on {channel} is {word}")


def _said(wishes: Wishes, category: str, channel: Channel, whose: str) -> Answer | None:
    """The most specific word, if there is one."""
    if not wishes:
        return None
    if (wish := wishes.get((category, channel))) is not None:
        return Answer(allowed=wish, reason=f"{whose}{category} × {channel} is {'on' if wish else 'off'}")
    if (wish := wishes.get((category, ""))) is not None:
        return Answer(allowed=wish, reason=f"{whose}{category} is {'on' if wish else 'off'}")
    if (wish := wishes.get(("", channel))) is not None:
        return Answer(allowed=wish, reason=f"{whose}{channel} is {'on' if wish else 'off'}")
    return None
