"""Preferences: whether a user wants a category on a channel."""

from dataclasses import dataclass

from pipeline.model.catalogue import Category
from pipeline.model.event import Channel
from pipeline.model.profile import Profile


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """Whether it may be sent, and which level of the preferences said so."""

    allowed: bool
    reason: str


def allows(profile: Profile, category: Category, channel: Channel) -> Answer:
    """Ask the levels in their order: required, global switch, category × channel, category's default.

    The most specific of the user's own words wins; `required` categories (security codes) pass any
    opt-out, and the reason says so.
    """
    if category.required:
        return Answer(allowed=True, reason="required category")
    if not profile.enabled:
        return Answer(allowed=False, reason="global switch is off")
    wish = profile.preferences.get((category.name, channel))
    if wish is not None:
        return Answer(allowed=wish, reason=f"{category.name} × {channel} is {'on' if wish else 'off'}")
    default = channel in category.on_by_default
    return Answer(allowed=default, reason=f"default of {category.name} on {channel}")
