"""Source code and settings, as they stand. Functions and classes are the places, nested as they are indented."""

import re
from collections.abc import Iterator
from typing import BinaryIO

from edge_embed.files.formats.content import Content, Headings, Request, places
from edge_embed.files.formats.plain import whole

TAB = 4
MAX_LINE = 1000
# Words that may stand before what is declared, in any of the languages.
BEFORE = (
    r"(?:(?:export|default|public|private|protected|internal|static|final|abstract|async|pub(?:\([^)]{0,20}\))?|unsafe|"
    r"override|open|data|sealed|inline|extern|const|virtual|partial|local|suspend|case|declare)[ \t]+)*"
)
KINDS = (
    r"(?:def|class|struct|enum|trait|impl|interface|union|namespace|module|mod|object|protocol|extension|record|message|"
    r"service|function\*?|func|fun|fn|sub|defmodule|defp?|macro_rules!|type)"
)
# Go has the receiver before the name, Rust type parameters: func (s *Server) Start(, impl<T> Display for Name
DECLARED = re.compile(
    rf"([ \t]*){BEFORE}{KINDS}(?:<[^<>]{{0,80}}>)?[ \t]+(?:\([^()]{{0,80}}\)[ \t]*)?([\w$.]+(?:::\w+)*)"
)
# C and its relatives: a type, a name, and arguments, at the beginning of a line.
FUNCTION = re.compile(r"()(?:[\w*&:<>,~\[\]]+[ \t*&]+){1,6}([\w:~]+)[ \t]*\([^;]*$")
SHELL = re.compile(r"([ \t]*)(?:function[ \t]+)?([\w:.-]+)[ \t]*\(\)[ \t]*\{?")
SECTION = re.compile(r"()[ \t]*\[{1,2}([^\[\]\n]+)\]{1,2}")
NO_NAME = re.compile(r"(?:if|else|for|while|switch|return|case|do|new|delete|throw|typedef)\b")
C_LIKE = (".c", ".h", ".cc", ".cpp", ".cxx", ".hh", ".hpp")
RULES = {
    **dict.fromkeys(C_LIKE, (DECLARED, FUNCTION)),
    **dict.fromkeys((".sh", ".bash", ".zsh"), (SHELL,)),
    **dict.fromkeys((".toml", ".ini", ".cfg"), (SECTION,)),
    **dict.fromkeys((".json", ".yaml", ".yml", ".sql", ".hs", ".r"), ()),
}


def read_code(file: BinaryIO, request: Request) -> Iterator[Content]:
    text = whole(file, request)
    yield Content(text, places(text, _names(text, RULES.get(request.suffix, (DECLARED,)))))


def _names(text: str, rules: tuple[re.Pattern[str], ...]) -> Headings:
    start = 0
    for line in text.split("\n") if rules else ():
        if len(line) <= MAX_LINE and line.strip():
            for rule in rules:
                if (found := rule.match(line)) and not NO_NAME.match(line.lstrip()):
                    yield start, 1 + len(found[1].expandtabs(TAB)), found[2]
                    break
        start += len(line) + 1
