"""What can be sent as an SMS at all, whoever sends it."""

import re

from connectors.contract import InvalidAddress, Message, Permanent

SENDER = re.compile(r"\+?[0-9]{3,15}|[A-Za-z0-9 ]{1,11}")
"""A number, a short code, or a name of up to 11 letters and digits."""

_SURROGATE = re.compile("[\ud800-\udfff]")
_E164 = re.compile(r"\+[1-9][0-9]{6,14}")


def refusal(message: Message) -> InvalidAddress | Permanent | None:
    """Why the message can be no SMS; None when it can."""
    if not _E164.fullmatch(message.address):
        return InvalidAddress(reason="the phone number is not E.164 (+ and 7 to 15 digits)", code="malformed")
    text = message.content.text
    if not text.strip() or _SURROGATE.search(text):
        return Permanent(reason="the text is empty or no valid Unicode", code="text")
    return None
