"""Regular expressions of tokenizers, looked at before an engine that tries every way to fit them sees them.

Oniguruma, which tokenizers uses, needs minutes for `(a+)+b` and a few thousand letters. Refused is what can take longer
than the square of a text's length; no pattern that a public tokenizer is known to have does.
"""

import re
from dataclasses import dataclass

from edge_embed_runtime.errors import BundleFormatError

MAX_CHARACTERS = 4096
# Repetitions that are counted out, as in `a{1,100}`, and inside of each other.
MAX_REPEATS = 1000
# Ways to fit that are tried one after the other at one place of a text, those of `+` and `*` apart.
MAX_WAYS = 4096
MAX_DEPTH = 32

QUANTIFIER = re.compile(r"[*+?]|\{(\d*)(,?)(\d*)\}")
# What opens a group: ( (?: (?i: (?= (?! (?<= (?<! (?> and (?<name>. In front of all, (?i) holds for the whole pattern.
GROUP = re.compile(r"\((?:\?(?:[ims-]*:|[=!>]|<[=!]|<[A-Za-z_]\w*>))?")
FLAGS = re.compile(r"\(\?[ims-]+\)")
# One character, or a place between two: \p{L} \x{12} \x1b \d, or anything but what has a meaning.
ESCAPE = re.compile(r"\\(?:[pP]\{\^?\w+\}|x\{[0-9A-Fa-f]+\}|x[0-9A-Fa-f]{1,2}|u[0-9A-Fa-f]{4}|[^1-9gkKRXu])", re.DOTALL)


@dataclass
class Cost:
    """What a part of a pattern takes.

    loops:    `+` and `*` that are tried again where what comes behind them does not fit
    open:     `+` and `*` behind which nothing came yet that must fit
    ways:     other choices, multiplied
    varies:   whether it fits texts of different lengths
    optional: whether it fits nothing
    repeats:  times that its smallest part is written out
    """

    loops: int = 0
    open: int = 0
    ways: int = 1
    varies: bool = False
    optional: bool = True
    repeats: int = 1


def check_pattern(pattern: object, where: str) -> None:
    """Raise BundleFormatError for a pattern that is none, or that may take too long."""
    if not isinstance(pattern, str) or len(pattern) > MAX_CHARACTERS:
        raise BundleFormatError(f"{where}: a pattern must be a text of at most {MAX_CHARACTERS} characters")
    reader = _Reader(pattern)
    try:
        cost = reader.alternatives(0)
        if reader.at < len(pattern):
            raise _Refused("a bracket is closed that was not opened")
        if cost.loops > 1:
            raise _Refused("it repeats what is repeated, or several parts before one that must fit")
        if cost.ways > MAX_WAYS or cost.repeats > MAX_REPEATS:
            raise _Refused("it has too many choices or repetitions")
    except _Refused as reason:
        raise BundleFormatError(f"{where}: the pattern {pattern!r:.80} is not supported: {reason}") from None


class _Refused(Exception):
    """Why a pattern is not taken."""


class _Reader:
    """A pattern from its start; `at` is the next character."""

    def __init__(self, pattern: str) -> None:
        self.pattern = pattern
        flags = FLAGS.match(pattern)
        self.at = flags.end() if flags else 0

    def alternatives(self, depth: int) -> Cost:
        """What stands up to the end or a closing bracket: `a|b|c`."""
        if depth > MAX_DEPTH:
            raise _Refused("its groups lie too deep")
        parts = [self.sequence(depth)]
        while self.peek("|"):
            self.at += 1
            parts.append(self.sequence(depth))
        return Cost(
            max(part.loops for part in parts),
            max(part.open for part in parts),
            sum(part.ways for part in parts),
            len(parts) > 1 or parts[0].varies,
            any(part.optional for part in parts),
            max(part.repeats for part in parts),
        )

    def sequence(self, depth: int) -> Cost:
        """Parts one behind the other: `ab*[c-d]`."""
        whole = Cost()
        while self.at < len(self.pattern) and self.pattern[self.at] not in "|)":
            part = self.repeated(self.atom(depth))
            if not part.optional:  # it may not fit: what was open before is tried again
                whole.loops += whole.open
                whole.open = 0
            whole.loops += part.loops
            whole.open += part.open
            whole.ways *= part.ways
            whole.varies |= part.varies
            whole.optional &= part.optional
            whole.repeats = max(whole.repeats, part.repeats)
            if whole.ways > MAX_WAYS:
                raise _Refused("it has too many choices")
        return whole

    def atom(self, depth: int) -> Cost:
        """One character, class or group."""
        sign = self.pattern[self.at]
        if sign == "(":
            return self.group(depth)
        if sign == "[":
            self.character_class(0)
        elif sign == "\\":
            found = ESCAPE.match(self.pattern, self.at)
            if not found:
                raise _Refused(f"{self.pattern[self.at : self.at + 2]!r} refers to another part")
            self.at = found.end()
        elif sign in "*+?":
            raise _Refused("a repetition of nothing")
        else:
            self.at += 1
        return Cost(optional=False)

    def group(self, depth: int) -> Cost:
        found = GROUP.match(self.pattern, self.at)
        opened = found[0] if found else ""
        if not opened or (opened == "(" and self.pattern[self.at + 1 : self.at + 2] in ("?", "*")):
            raise _Refused(f"{self.pattern[self.at : self.at + 4]!r} is no known kind of group")
        self.at += len(opened)
        inside = self.alternatives(depth + 1)
        if not self.peek(")"):
            raise _Refused("a bracket is not closed")
        self.at += 1
        if opened in ("(?=", "(?!", "(?<=", "(?<!"):  # takes nothing, but must fit
            inside = Cost(inside.loops + inside.open, 0, inside.ways, False, False, inside.repeats)
        return inside

    def character_class(self, depth: int) -> None:
        """[a-z], [^\\s\\p{L}], [[:alpha:]], [a&&[^b]]: always one character."""
        if depth > MAX_DEPTH:
            raise _Refused("its classes lie too deep")
        self.at += 1
        self.at += self.peek("^")
        self.at += self.peek("]")  # as the first it means itself
        while not self.peek("]"):
            if self.at >= len(self.pattern):
                raise _Refused("a class is not closed")
            if self.peek("["):
                self.character_class(depth + 1)
            else:
                self.at += 2 if self.peek("\\") else 1
        self.at += 1

    def repeated(self, part: Cost) -> Cost:
        """A part with the repetition behind it, if there is one."""
        least, most = self.quantifier()
        if (least, most) == (1, 1):
            return part
        once = most is not None and most <= 1
        if not once and (part.varies or part.loops or part.open):
            raise _Refused("it repeats what is repeated or has choices")
        repeats = part.repeats * (most or max(least, 1))
        optional = part.optional or least == 0
        if repeats > MAX_REPEATS:
            raise _Refused(f"it repeats more than {MAX_REPEATS} times")
        if most is None:
            return Cost(part.loops, part.open + 1, part.ways, True, optional, repeats)
        ways = part.ways * (most - least + 1)
        return Cost(part.loops, part.open, ways, part.varies or most > least, optional, repeats)

    def quantifier(self) -> tuple[int, int | None]:
        """The repetition that comes next, least and most: `{2,}` -> 2, None. (1, 1) where there is none."""
        found = QUANTIFIER.match(self.pattern, self.at)
        if not found or (found[0][0] == "{" and not (found[1] or found[3])):
            return 1, 1
        self.at = found.end()
        self.at += self.peek("?") or self.peek("+")  # as few as will do; never tried again
        if QUANTIFIER.match(self.pattern, self.at):
            raise _Refused("it repeats what is repeated")
        if found[0] in "*+?":
            return (1 if found[0] == "+" else 0), (1 if found[0] == "?" else None)
        least = int(found[1] or 0)
        most = (int(found[3]) if found[3] else None) if found[2] else least
        if max(least, most or 0) > MAX_REPEATS or (most is not None and most < least):
            raise _Refused(f"it repeats more than {MAX_REPEATS} times")
        return least, most

    def peek(self, sign: str) -> bool:
        return self.pattern.startswith(sign, self.at)
