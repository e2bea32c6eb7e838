"""A message as a mail: nothing can be injected, and the reader sees the words that were written."""

from datetime import UTC, datetime
from email import message_from_bytes, policy
from email.message import EmailMessage
from typing import Any

import pytest
from hypothesis import event, given, settings
from hypothesis import strategies as st

from connectors._mail import Mail, Sender, mailbox, to_mail
from connectors.contract import Content, InvalidAddress, Message, Permanent

NOW = datetime(2026, 11, 23, 12, 0, tzinfo=UTC)
SENDER = Sender(mailbox="noreply@example.com", name="Ünited", domain="example.com")
DELIVERY = "6f9619ff-8b86-d011-b42d-00c04fc964ff"
STRANGE = st.text(
    st.sampled_from('aZ09 \t:<>@,;"\\=?_-.()[]é✈') | st.characters(exclude_categories=["Cc", "Cs"])
)
EVIL = st.text(st.sampled_from("a \r\n\0\x0b\x0c\x1c\x85\u2028\u2029:\ud800"), min_size=1, max_size=5)
ANY = STRANGE | st.tuples(STRANGE, EVIL, STRANGE).map("".join)
HEADERS = {"message-id", "date", "from", "to", "subject", "mime-version", "content-type"}


def message(address: str = "ada@example.org", **fields: Any) -> Message:
    """A message with what matters to the test."""
    content = Content(
        title=fields.pop("title", "Delayed"),
        text=fields.pop("text", "Gate B4"),
        html=fields.pop("html", None),
    )
    return Message(delivery_id=DELIVERY, event_id="e", address=address, content=content, **fields)


def mail(**fields: Any) -> Mail:
    """The mail for a message that has one."""
    found = to_mail(message(**fields), SENDER, NOW)
    assert isinstance(found, Mail)
    return found


def read(content: bytes) -> EmailMessage:
    """The mail as a reader's program parses it."""
    return message_from_bytes(content, policy=policy.default)


def part(content: bytes, kind: str) -> str:
    """The decoded part of this kind."""
    found = read(content).get_body((kind,))
    assert found is not None
    return found.get_content().replace("\r\n", "\n")


def test_a_mail_says_what_it_must() -> None:
    """Identity, date and sender are ours: the library adds none of them."""
    found = read(mail().content)
    assert found["Message-ID"] == f"<{DELIVERY}@example.com>"
    assert found["Date"] == "Mon, 23 Nov 2026 12:00:00 +0000"
    assert (found["From"], found["To"]) == ("Ünited <noreply@example.com>", "ada@example.org")
    assert mail() == mail()  # the same bytes on every repeat at the same time


def test_with_html_there_are_two_alternatives() -> None:
    """The reader chooses; plain text comes first (RFC 2046, 5.1.4)."""
    content = mail(text="plain ✈", html="<p>rich ✈</p>").content
    assert read(content).get_content_type() == "multipart/alternative"
    assert (part(content, "plain"), part(content, "html")) == ("plain ✈\n", "<p>rich ✈</p>\n")


def test_a_long_unsubscribe_address_stays_whole() -> None:
    """RFC 8058 wants it readable; the email package alone would turn it into encoded words."""
    url = f"<https://example.com/unsubscribe?token={'x' * 400}>"
    headers = {"List-Unsubscribe": url, "List-Unsubscribe-Post": "List-Unsubscribe=One-Click"}
    assert f"List-Unsubscribe: {url}\r\n".encode() in mail(headers=headers).content


def test_a_mailbox_beyond_ascii_asks_for_smtputf8() -> None:
    """Only then, and the header then is UTF-8 (RFC 6532)."""
    assert mail(address="jürgen@example.org").utf8
    assert "To: jürgen@example.org\r\n".encode() in mail(address="jürgen@example.org").content
    assert not mail().utf8


@pytest.mark.parametrize(
    "address",
    [
        "", "ada", "@example.org", "ada@", "a b@example.org", "ada@example.org ", "ada@exa mple.org",
        "ada@example.org\r\nRCPT TO:<eve@example.org>", "ada@example.org\n", "ada\0@example.org",
        "<ada@example.org>", "Ada <ada@example.org>", "ada@example.org,eve@example.org", "a@b@example.org",
        '"a b"@example.org', "ada@[127.0.0.1]", "ada\u2028@example.org", "ada\x85@example.org",
        f"{'x' * 65}@example.org", f"ada@{'x' * 255}.org", "ada@example.org> SIZE=1", "ada;@example.org",
    ],
)  # fmt: skip
def test_what_is_no_mailbox_is_an_invalid_address(address: str) -> None:
    """Nothing that could change a command or a header gets so far."""
    assert isinstance(to_mail(message(address=address), SENDER, NOW), InvalidAddress)


@pytest.mark.parametrize(
    "headers",
    [
        {"List-Unsubscribe": "<https://x>\r\nBcc: eve@example.org"},
        {"List-Unsubscribe": "<https://x>\nBcc: eve@example.org"},
        {"List-Unsubscribe": "<https://x>\rBcc: eve@example.org"},
        {"List-Unsubscribe": "a\0b"},
        {"X-A\r\nBcc": "eve@example.org"},
        {"X A": "b"},
        {"X-A:": "b"},
        {"": "b"},
        {"X-A": "é"},
        {"X-A": "x" * 1000},
        {"Bcc": "eve@example.org"},
        {"TO": "eve@example.org"},
        {"message-id": "<x@y>"},
        {"Content-Type": "text/html"},
        {"Resent-To": "eve@example.org"},
    ],
)
def test_headers_that_change_the_mail_are_refused(headers: dict[str, str]) -> None:
    """Line breaks, and headers that are not the caller's, make the mail permanent."""
    outcome = to_mail(message(headers=headers), SENDER, NOW)
    assert isinstance(outcome, Permanent)
    assert outcome.code == "header"
    assert "eve" not in outcome.reason


@settings(max_examples=500)
@given(
    title=ANY,
    name=st.just("X-Note") | ANY,
    value=st.text(st.characters(codec="ascii")) | ANY,
    local=st.just("ada") | ANY,
    text=ANY,
    html=st.none() | ANY,
)
def test_nothing_can_be_injected(
    title: str, name: str, value: str, local: str, text: str, html: str | None
) -> None:
    """Whatever the words, a mail has our headers and the one that was given, once each, and one recipient."""
    fields = message(address=f"{local}@example.org", title=title, text=text, html=html, headers={name: value})
    found = to_mail(fields, SENDER, NOW)
    event(type(found).__name__)
    if not isinstance(found, Mail):
        return
    head, _, _ = found.content.partition(b"\r\n\r\n")
    names = [
        line.partition(b":")[0].decode().lower() for line in head.split(b"\r\n") if line[:1] not in b" \t"
    ]
    assert len(names) == len(set(names))
    assert set(names) - HEADERS <= {name.lower(), "content-transfer-encoding"}
    assert not set(head) & {0, *range(1, 9), *range(11, 13), *range(14, 32)}
    assert found.recipient == fields.address
    assert b"To: " + fields.address.encode() + b"\r\n" in found.content


WORDS = st.text(st.characters(exclude_categories=["Cs", "Cc"]) | st.sampled_from("\n\t"), max_size=400)


PRINTABLE = st.text(st.characters(min_codepoint=33, max_codepoint=126))
TITLE = WORDS.filter(lambda text: "\n" not in text) | st.lists(PRINTABLE).map(" ".join)


@given(title=TITLE, text=WORDS, html=st.none() | WORDS)
def test_the_reader_sees_the_words(title: str, text: str, html: str | None) -> None:
    """In seven bits, in lines that every relay passes on, and decoded to what was written."""
    found = to_mail(message(title=title, text=text, html=html), SENDER, NOW)
    if isinstance(found, Permanent):
        assert set(title) & {"\u2028", "\u2029"}
        return
    assert isinstance(found, Mail)
    assert found.content.isascii()
    assert read(found.content)["Subject"] == title
    lines = found.content.split(b"\r\n")
    assert max(map(len, lines)) <= 998
    assert not any(b"\r" in line or b"\n" in line for line in lines)
    assert part(found.content, "plain").rstrip("\n") == text.rstrip("\n")
    if html is not None:
        assert part(found.content, "html").rstrip("\n") == html.rstrip("\n")


@pytest.mark.parametrize(
    "text",
    [
        "x" * 2000,  # no line has more than 998 characters
        "é" * 2000,
        "From here on",  # the mailbox format's own mark
        ".\n..\n.",
        "--=_everpost_alternative\nContent-Type: text/html\n\n<b>no</b>",
        "--=_everpost_alternative--",
        "trailing \t\n =20 =\n=",
        "a\n\n\nb",
        "",
    ],
)
def test_no_encoding_changes_the_words(text: str) -> None:
    """Long lines, marks of mailboxes, of SMTP and of our own boundary: both parts say what was written."""
    found = mail(text=text, html=f"<pre>\n{text}\n</pre>").content
    assert max(map(len, found.split(b"\r\n"))) <= 998
    assert [one.get_content_type() for one in read(found).iter_parts()] == ["text/plain", "text/html"]
    assert part(found, "plain").rstrip("\n") == text.rstrip("\n")
    assert part(found, "html").rstrip("\n") == f"<pre>\n{text}\n</pre>"


@given(st.text(st.characters(codec="ascii") | st.sampled_from("éß\u2028"), max_size=30))
def test_a_mailbox_has_nothing_that_a_command_could_mistake(text: str) -> None:
    """One @, no space, no bracket, no control."""
    if mailbox(text):
        assert text.count("@") == 1
        assert not set(text) & set(' <>()[],;:\\"\r\n\0\t\u2028')
