"""Front matter of Markdown: the lines between two `---` at the beginning, as metadata.

    ---
    title: "A history of ferries"
    year: 1999
    tags: [boats, sea]
    ---

Names with texts, numbers, true and false, and lists of them, as [a, b] or one `- a` a line. That is the part of YAML
which most files use; where there is anything else the whole of it stays in the text.
"""

import re
from collections.abc import Iterator
from typing import Any

from edge_embed.files.values import value

OPENING = re.compile(r"---[ \t]*\r?\n")
CLOSING = re.compile(r"^(?:---|\.\.\.)[ \t]*(?:\r?\n|\Z)", re.MULTILINE)
MAX_CHARACTERS = 100_000
ENTRY = re.compile(r"([^\s:#\-\[\]{}&*!|>'\"%@`,][^:]*?)[ \t]*:(?:[ \t]+(.*))?")
ITEM = re.compile(r"[ \t]*-[ \t]+(.*)")
# The beginnings of YAML that is not read here: maps, anchors, tags, texts over several lines.
OTHER = tuple("{}&*!|>%@`]")
QUOTED = re.compile(r'"((?:[^"\\]|\\["\\])*)"|\'((?:[^\']|\'\')*)\'')


def split_front_matter(text: str) -> tuple[dict[str, Any], str]:
    """(metadata, the text after it); without front matter that can be read, ({}, the whole text)."""
    opening = OPENING.match(text)
    closing = CLOSING.search(text, opening.end(), opening.end() + MAX_CHARACTERS) if opening else None
    if opening is None or closing is None:
        return {}, text
    found = _entries(text[opening.end() : closing.start()])
    return (found, text[closing.end() :]) if found is not None else ({}, text)


def _entries(block: str) -> dict[str, Any] | None:
    """None if a line is not understood."""
    found: dict[str, Any] = {}
    name = ""
    listed: list[Any] | None = None  # the list that lines with - add to
    for line in block.splitlines():
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        item, entry = ITEM.fullmatch(line), ENTRY.fullmatch(line)
        try:
            if item is not None and listed is not None:
                listed.append(_scalar(item[1]))
                found[name] = listed
            elif entry is not None and entry[1] not in found:
                name = entry[1]
                found[name] = _value(entry[2] or "")
                listed = None if entry[2] else []
            else:
                return None
        except ValueError:
            return None
    return found


def _value(text: str) -> Any:
    """ "[a, 2]" -> ["a", 2], "a # b" -> "a"."""
    text = text.strip()
    if not text.startswith("["):
        return _scalar(text)
    text = text.partition(" #")[0].strip()
    if not text.endswith("]"):
        raise ValueError
    return list(_items(text[1:-1]))


def _items(text: str) -> Iterator[Any]:
    """ "a, 'b, c'" -> "a", "b, c"."""
    while text.strip():
        quoted = QUOTED.match(text.lstrip())
        part = quoted[0] if quoted else text.split(",", 1)[0]
        rest = text.lstrip()[len(part) :] if quoted else text[len(part) :]
        if rest.strip() and not rest.lstrip().startswith(","):
            raise ValueError
        yield _scalar(part)
        text = rest.lstrip()[1:]


def _scalar(text: str) -> Any:
    """One value. Raises ValueError for YAML that is not read here."""
    text = text.strip()
    quoted = QUOTED.match(text)
    if quoted is not None:
        behind = text[quoted.end() :].strip()
        if behind and not behind.startswith("#"):
            raise ValueError
        return re.sub(r"\\(.)", r"\1", quoted[1]) if quoted[1] is not None else quoted[2].replace("''", "'")
    text = re.split(r"(?:^|[ \t])#", text, maxsplit=1)[0].strip()
    if text.startswith((*OTHER, "[", "'", '"')) or ": " in text or text.endswith(":"):
        raise ValueError
    return None if text in ("null", "~") else value(text)
