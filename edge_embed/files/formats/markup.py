"""Text with headings, as it stands: Markdown, reStructuredText, Org, AsciiDoc, LaTeX."""

import re
from collections.abc import Callable, Iterator
from itertools import pairwise
from typing import BinaryIO

from edge_embed.files.formats.content import Content, Headings, Request, places
from edge_embed.files.formats.plain import whole
from edge_embed.files.frontmatter import split_front_matter

MARKDOWN = (".md", ".markdown")
ATX = re.compile(r" {0,3}(#{1,6})[ \t]+(.*)")
SETEXT = re.compile(r" {0,3}(=+|-+)[ \t]*")
FENCE = re.compile(r" {0,3}(`{3,}|~{3,})")
STARS = re.compile(r"(\*{1,12})[ \t]+(.+)")
STATE = re.compile(r"(?:TODO|DONE)[ \t]+|(?:\[#[A-Z]\][ \t]*)|[ \t]+:[\w@:]+:[ \t]*$")
EQUALS = re.compile(r"(={1,6})[ \t]+(.+)")
SECTION = re.compile(r"[ \t]*\\(part|chapter|section|subsection|subsubsection)\*?\s*(?:\[[^\]\n]*\])?\{([^{}\n]*)\}")
LEVELS = ("part", "chapter", "section", "subsection", "subsubsection")
ADORNMENT = re.compile(r"([!-/:-@\[-`{-~])\1+[ \t]*")


def read_markup(file: BinaryIO, request: Request) -> Iterator[Content]:
    text = whole(file, request)
    metadata, body = split_front_matter(text) if request.suffix in MARKDOWN else ({}, text)
    yield Content(body, places(body, HEADINGS[request.suffix](body)), metadata)


def _lines(text: str) -> Iterator[tuple[int, str]]:
    """Lines with their first characters, and an empty one at the end."""
    start = 0
    for line in text.split("\n"):
        yield start, line.rstrip("\r")
        start += len(line) + 1
    yield start, ""


def markdown(text: str) -> Headings:
    """`# Title`, and a line with === or --- under it; not in blocks of code."""
    fence, before = "", ""
    for (start, line), (_, below) in pairwise(_lines(text)):
        found = FENCE.match(line)
        if fence:
            closes = found is not None and found[1].startswith(fence) and not line.strip(" `~")
            fence = "" if closes else fence
        elif found is not None:
            fence = found[1]
        elif (atx := ATX.fullmatch(line)) is not None:
            yield start, len(atx[1]), atx[2].rstrip().rstrip("#")
        elif not before.strip() and line.strip() and (under := SETEXT.fullmatch(below)) and not SETEXT.fullmatch(line):
            yield start, 1 if under[1][0] == "=" else 2, line
        before = line


def restructured(text: str) -> Headings:
    """A line with a line of equal punctuation under it, or under and above. Levels are in the order of their coming."""
    levels: list[tuple[str, bool]] = []
    window = [(0, ""), (0, "")]
    for start, line in _lines(text):
        (above_start, above), (title_start, title) = window
        rule = ADORNMENT.fullmatch(line)
        if rule and title.strip() and not ADORNMENT.fullmatch(title) and len(line.rstrip()) >= len(title.strip()):
            over = above.rstrip() == line.rstrip()
            if over or not above.strip():  # a title stands alone
                style = (rule[1], over)
                if style not in levels:
                    levels.append(style)
                yield above_start if over else title_start, levels.index(style) + 1, title
        window = [window[1], (start, line)]


def org(text: str) -> Headings:
    """`** TODO Title :tag:`."""
    for start, line in _lines(text):
        if (found := STARS.fullmatch(line)) is not None:
            yield start, len(found[1]), STATE.sub("", found[2])


def asciidoc(text: str) -> Headings:
    """`== Title`."""
    for start, line in _lines(text):
        if (found := EQUALS.fullmatch(line)) is not None:
            yield start, len(found[1]), found[2].rstrip("= \t")


def latex(text: str) -> Headings:
    r"""`\section{Title}`."""
    for start, line in _lines(text):
        if (found := SECTION.match(line)) is not None:
            yield start, LEVELS.index(found[1]) + 1, found[2]


HEADINGS: dict[str, Callable[[str], Headings]] = {
    **dict.fromkeys(MARKDOWN, markdown),
    ".rst": restructured,
    ".org": org,
    ".adoc": asciidoc,
    ".tex": latex,
}
