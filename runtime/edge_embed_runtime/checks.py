"""Checks of what users hand in; each gives the value back in its plain type or raises InputError."""

import operator
import os
import reprlib
from collections.abc import Collection
from pathlib import Path
from typing import Any

from edge_embed_runtime.errors import InputError

# What a message shows of a value, in characters, and of a list of names, so that no message grows with the data.
SHOWN_CHARACTERS = 60
SHOWN_NAMES = 20


def shown(value: object, most: int = SHOWN_CHARACTERS) -> str:
    """A value in a message, cut: "aaaa..." -> "'aaaa...'"."""
    if isinstance(value, str):
        return repr(value if len(value) <= most else f"{value[: most - 3]}...")
    try:
        text = reprlib.repr(value) if isinstance(value, Collection) else repr(value)
    except (ValueError, RecursionError):  # a number of thousands of digits
        return type(value).__name__
    return text if len(text) <= most else f"{text[: most - 3]}..."


def listed(names: Collection[object], most: int = SHOWN_NAMES, *, quoted: bool = False) -> str:
    """Names in a message, the first of them: "a, b and 3 more"; in quotes where asked for, or where they need it."""
    first = [(name, shown(name)) for name, _ in zip(names, range(most), strict=False)]
    if not quoted:
        first = [(name, text[1:-1] if isinstance(name, str) and "\\" not in text else text) for name, text in first]
    rest = f" and {len(names) - most:,} more" if len(names) > most else ""
    return f"{', '.join(text for _, text in first)}{rest}" or "none"


def check_text(text: object, what: str) -> str:
    """The text itself, or an InputError that names it: not a str, or holds a lone surrogate."""
    if not isinstance(text, str):
        raise InputError(f"{what} is {type(text).__name__}, expected str")
    if not text.isascii():
        try:
            text.encode()
        except UnicodeEncodeError as error:
            raise InputError(
                f"{what} holds a lone surrogate at character {error.start}, which is not Unicode text: "
                "decode its source with errors='replace'"
            ) from None
    return text


def unusable(option: str, value: object, expected: str) -> InputError:
    """What to raise: ("k", 0, "a whole number of at least 1") -> "k is 0, expected a whole number of at least 1"."""
    text = shown(value)
    return InputError(f"{option} is {text}, expected {expected}", option=option, value=text)


def check_count(value: object, what: str, least: int, most: int | None = None) -> int:
    """A whole number, numpy's included, from `least` to `most`; True and False are none."""
    try:
        number = None if isinstance(value, bool) else operator.index(value)  # type: ignore[arg-type]
    except TypeError:
        number = None
    if number is None or number < least or (most is not None and number > most):
        limits = f"of at least {least}" if most is None else f"from {least} to {most}"
        raise unusable(what, value, f"a whole number {limits}")
    return number


def check_path(path: object, what: str) -> Path:
    """A path that the file system can be asked for; links in it are followed."""
    if not isinstance(path, str | os.PathLike) or isinstance(os.fspath(path), bytes):
        raise InputError(f"{what} is {type(path).__name__}, expected a path (str or pathlib.Path)")
    try:
        checked = Path(path).resolve()
        checked.exists()
    except PermissionError as error:
        raise InputError(f"{what} {str(path)[:100]!r} cannot be looked at: {error.strerror}", path=path) from error
    except (OSError, ValueError, RuntimeError) as error:
        raise InputError(f"{what} {str(path)[:100]!r} is not a path: {error}", path=path) from error
    return checked


def unique_names(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """A JSON object for json.loads, which drops the first of two equal names without a word: they are refused here."""
    found = dict(pairs)
    if len(found) < len(pairs):
        raise InputError("a name comes twice in one object")
    return found
