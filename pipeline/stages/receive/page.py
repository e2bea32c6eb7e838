"""The pages behind an unsubscribe link. Pure: a category's name to HTML, readable without scripts or pictures."""

from html import escape

_FRAME = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="robots" content="noindex">
<title>{title}</title>
<style>
:root {{ color-scheme: light dark; }}
body {{ margin: 0; min-height: 100vh; display: grid; place-items: center; font: 1.0625rem/1.5 system-ui, sans-serif; }}
main {{ box-sizing: border-box; width: 100%; max-width: 34rem; padding: 2rem 1.5rem; overflow-wrap: anywhere; }}
h1 {{ font-size: 1.5rem; line-height: 1.25; margin: 0 0 1rem; }}
button {{ font: inherit; font-weight: 600; padding: .75rem 1.5rem; border: 0; border-radius: .5rem; cursor: pointer;
  background: #1a4fd6; color: #fff; }}
button:focus-visible {{ outline: 3px solid #7aa2ff; outline-offset: 2px; }}
</style>
</head>
<body><main>
<h1>{title}</h1>
{content}
</main></body>
</html>
"""


def question(category: str) -> str:
    """What GET shows: a button, which is the POST."""
    name = escape(category)
    return _page(
        f"Stop e-mails about “{name}”?",
        "<p>You go on getting everything else that you have asked for.</p>\n"
        '<form method="post"><button>Stop these e-mails</button></form>',
    )


def done(category: str) -> str:
    """What follows the POST."""
    name = escape(category)
    return _page(
        f"No more e-mails about “{name}”.",
        "<p>It counts from now on. One that is under way at this moment may still arrive.</p>",
    )


def unknown() -> str:
    """For a link that is none of ours."""
    return _page(
        "This link does not work.",
        "<p>Part of it may be missing. Open it from the e-mail itself, or use the unsubscribe button of your "
        "mail program.</p>",
    )


def later() -> str:
    """While something is away."""
    return _page(
        "That did not work just now.",
        '<p>Nothing has changed yet. Please try again in a minute.</p>\n<form method="post">'
        "<button>Try again</button></form>",
    )


def _page(title: str, content: str) -> str:
    return _FRAME.format(title=title, content=content)
