"""What can be sent as an SMS at all, whoever sends it."""

import re

from connectors.contract import InvalidAddress, Message, Permanent

SENDER = re.compile(r"\+?[0-9]{3,15}|[A-Za-z0-9 ]{1,11}")
"""A number, a short code, or a name of up to 11 letters and digits."""

_SURROGATE = re.compile("[\ud800-\udfff]")
_E164 = re.compile(r"\+[1-9][0-9]{6,14}")


# 3GPP TS 23.038: what fits into a text message without UCS-2; the second table takes an escape as well.
_BASIC = frozenset(
    "@£$¥èéùìòÇ\nØø\rÅåΔ_ΦΓΛΩΠΨΣΘΞÆæßÉ !\"#¤%&'()*+,-./0123456789:;<=>?¡ABCDEFGHIJKLMNOPQRSTUVWXYZÄÖÑÜ§"
    "¿abcdefghijklmnopqrstuvwxyzäöñüà"
)
_EXTENSION = frozenset("\f^{}\\[~]|€")
GSM = _BASIC | _EXTENSION
MOST = 10  # segments: Twilio takes 1,600 characters (its error 21617), and each is paid for
_SURELY = MOST * 66 // 2  # characters that never make more, were each a surrogate pair


def segments(text: str) -> int:
    """How many SMS the text is sent as: of 160 GSM-7 septets, or 70 UTF-16 units, and 153 or 67 when several.

    3GPP TS 23.040: six octets of each go to the header by which a phone joins them. What is two long is not cut.
    """
    if GSM.issuperset(text):
        whole, part = 160, 153
        sizes = [2 if character in _EXTENSION else 1 for character in text]
    else:
        whole, part = 70, 67
        sizes = [2 if character > "\uffff" else 1 for character in text]
    if sum(sizes) <= whole:
        return 1
    count, room = 1, part
    for size in sizes:
        if size > room:
            count, room = count + 1, part
        room -= size
    return count


def refusal(message: Message) -> InvalidAddress | Permanent | None:
    """Why the message can be no SMS; None when it can."""
    if not _E164.fullmatch(message.address):
        return InvalidAddress(reason="the phone number is not E.164 (+ and 7 to 15 digits)", code="malformed")
    text = message.content.text
    if not text.strip() or _SURROGATE.search(text):
        return Permanent(reason="the text is empty or no valid Unicode", code="text")
    if len(text) > _SURELY and (count := segments(text)) > MOST:
        reason = (
            f"the text is {count} SMS long, and {MOST} are allowed: shorten the template or its variables"
        )
        return Permanent(reason=reason, code="segments")
    return None
