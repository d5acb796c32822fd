"""Subtitles, .srt and .vtt: what is said is the text, and when it is said are the places."""

import re
from collections.abc import Iterator
from typing import BinaryIO

from edge_embed.files.formats.content import Content, Request, Writer
from edge_embed.files.formats.plain import whole

# 00:01:12,500 --> 00:01:15,000, and in .vtt also 01:12.500 --> 01:15.000 align:start
TIMES = re.compile(r"[ \t]*(?:(\d{1,4}):)?(\d{1,2}):(\d{1,2})[.,]\d{1,3}[ \t]+-->[ \t]")
TAG = re.compile(r"<[^<>\n]{0,200}>|\{\\[^{}\n]{0,200}\}")
ENTITIES = (("&lt;", "<"), ("&gt;", ">"), ("&nbsp;", " "), ("&lrm;", ""), ("&rlm;", ""), ("&amp;", "&"))


def read_subtitles(file: BinaryIO, request: Request) -> Iterator[Content]:
    text = whole(file, request)
    writer = Writer(request.limit)
    time, said, before = "", list[str](), ""
    for line in [*text.splitlines(), ""]:
        times = TIMES.match(line)
        if times is not None:
            hours, minutes, seconds = (int(part or 0) for part in times.groups())
            time, said = f"{hours:02}:{minutes:02}:{seconds:02}", []
        elif line.strip() and time:
            said.append(line)
        elif time:
            words = _words(said, html=request.suffix == ".vtt")
            if words != before:  # rolling captions say a line again
                writer.place(time)
                writer.block(words, tight=True)
            time, before = "", words
    yield writer.content()


def _words(lines: list[str], *, html: bool) -> str:
    """["<i>Who's</i>", "there?"] -> "Who's there?"."""
    text = TAG.sub("", " ".join(line.strip() for line in lines))
    for entity, character in ENTITIES if html else ():
        text = text.replace(entity, character)
    return text.strip()
