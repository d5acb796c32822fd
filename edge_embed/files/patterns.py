"""Patterns as .gitignore files have them: pathspec turns one into a regular expression; their order is kept here.

pathspec's own lists also match a file through the folders that it lies in, where git looks at each folder on the way
down. Here a pattern says something of one entry only, and whoever walks passes on what was said of its folder.
"""

import re
import warnings
from collections.abc import Callable, Iterable
from typing import NamedTuple

from edge_embed_runtime.errors import InputError
from edge_embed_runtime.extras import require

ANYTHING = re.compile(".+", re.DOTALL)
# Classes of POSIX inside of [...], which pathspec does not know.
CLASS = re.compile(r"\[:([a-z]*):\]")
CLASSES = {
    "alnum": "A-Za-z0-9",
    "alpha": "A-Za-z",
    "blank": " \t",
    "digit": "0-9",
    "lower": "a-z",
    "space": " \t\n\v\f\r",
    "upper": "A-Z",
    "xdigit": "0-9A-Fa-f",
}


class Pattern(NamedTuple):
    """One line. matches: entries that it names, relative to its folder; wanted: False after "!", which takes back what
    earlier lines said; folders: only these, as after "drafts/"."""

    matches: "re.Pattern[str]"
    wanted: bool
    folders: bool


class Patterns:
    """A list of patterns, of which the last that matches counts."""

    def __init__(self, lines: Iterable[str], unknown: Callable[[int, str], None] | None = None) -> None:
        """
        unknown: takes the number of each line that git understands and this does not, and what is wrong with it; lines
                 that git does not understand either are passed over. Without it both raise InputError
        """
        self._patterns: list[Pattern] = []
        for number, line in enumerate(lines, start=1):
            try:
                self._patterns += _pattern(line)
            except _NoPatternError:
                if unknown is None:
                    raise InputError(f"{line.strip()!r:.80} is no pattern") from None
            except InputError as error:
                if unknown is None:
                    raise
                unknown(number, str(error))

    def __bool__(self) -> bool:
        return bool(self._patterns)

    def says(self, path: str, *, folder: bool) -> bool | None:
        """Whether an entry is named; None where no pattern says anything of it. path: as "sub/a.md", never "sub/"."""
        for pattern in reversed(self._patterns):
            if (folder or not pattern.folders) and pattern.matches.fullmatch(path):
                return pattern.wanted
        return None


class _NoPatternError(Exception):
    pass


def _pattern(line: str) -> list[Pattern]:
    """ "!drafts/" -> [(drafts, wanted=False, folders=True)]; a comment or an empty line -> []."""
    text = line.rstrip("\r\n")
    while text.endswith(" ") and not text.endswith("\\ "):
        text = text[:-1]
    if text.startswith("#"):
        return []
    wanted = not text.startswith("!")
    text = text if wanted else text[1:]
    folders = text.endswith("/")
    text = text.removesuffix("/")
    return [Pattern(_expression(text, line), wanted, folders)] if text else []


def _expression(text: str, line: str) -> "re.Pattern[str]":
    """What pathspec makes of a pattern without its "!" and its last "/"."""
    text = re.sub(r"(?<!\\)\*{3,}", "**", text)
    if text.endswith("/**"):
        text += "/*"  # all that is inside, and not the folder itself
    if text in ("*", "**", "**/*", "**/**/*"):
        return ANYTHING
    text = CLASS.sub(lambda found: CLASSES.get(found[1], found[0]), text)
    if CLASS.search(text):
        raise InputError(f"the pattern {line.strip()!r:.80} has a class of characters that is not known here")
    if text[0] in "!#":
        text = f"\\{text}"
    if text[-1] in "\t\v\f":
        text = f"{text[:-1]}\\{text[-1]}"
    require("pathspec", "files")
    from pathspec.patterns.gitignore.spec import GitIgnoreSpecPattern

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)  # of `re`, for "[[a]"
            found = GitIgnoreSpecPattern(text).regex
    except ValueError:
        found = None
    if found is None:
        raise _NoPatternError
    return found
