"""Texts and numbers as a page shows them."""

import re
from html import escape as escape_html

# Characters that a browser shows as nothing, or that turn the text around them so that it looks like another.
HIDDEN = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")
# Characters of a name or a value that are shown.
LABEL = 80


def escape(text: str) -> str:
    r"""Text as HTML, with nothing hidden: "<b>\x07" -> "&lt;b&gt;\\u0007"."""
    return escape_html(HIDDEN.sub(lambda found: f"\\u{ord(found[0]):04x}", text))


def cut(text: str, size: int = LABEL) -> str:
    """The beginning of what is longer: "abcdef", 4 -> "abc…"."""
    return text if len(text) <= size else f"{text[: size - 1]}…"


def shown(value: float) -> str:
    """A number of a tick or a table: 4 digits that count."""
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.4g}"


def in_bytes(size: int) -> str:
    """49152 -> "49 kB"."""
    return f"{size / 1e6:,.1f} MB" if size >= 1e6 else f"{size / 1e3:,.0f} kB"
