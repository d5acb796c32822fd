"""The text of a cell of a table, or of an entry of front matter, as a JSON value."""

import re

# As JSON writes numbers, without exponents: 2020, -9.5. Up to MAX_DIGITS digits a float keeps them all.
NUMBER = re.compile(r"-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?")
MAX_DIGITS = 15
# Digits that are a name rather than a number: 007, +49 30 1234, 4006381333931000.
NAME = re.compile(rf"\+[0-9].*|-?0[0-9].*|-?[0-9]{{{MAX_DIGITS + 1},}}.*", re.DOTALL)
WORDS = {"true": True, "false": False}


def is_name(text: str) -> bool:
    """Whether it consists of digits but is not a number: "007", "+49", more than 15 digits."""
    return NAME.fullmatch(text.strip()) is not None


def value(text: str) -> str | float | bool:
    """ "2020" -> 2020, "9.50" -> 9.5, "true" -> True; everything else stays a text: "007", "1e5", "9,50"."""
    stripped = text.strip()
    if stripped in WORDS:
        return WORDS[stripped]
    if not NUMBER.fullmatch(stripped) or sum(map(str.isdigit, stripped)) > MAX_DIGITS:
        return text
    return float(stripped) if "." in stripped else int(stripped)
