"""Checks of what users hand in; each gives the value back in its plain type or raises InputError."""

import operator
import os
from pathlib import Path

from edge_embed_runtime.errors import InputError


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


def check_count(value: object, what: str, least: int, most: int | None = None) -> int:
    """A whole number, numpy's included, from `least` to `most`; True and False are none."""
    try:
        number = None if isinstance(value, bool) else operator.index(value)  # type: ignore[arg-type]
    except TypeError:
        number = None
    if number is None or number < least or (most is not None and number > most):
        limits = f"of at least {least}" if most is None else f"from {least} to {most}"
        raise InputError(f"{what} is {value!r:.40}, expected a whole number {limits}")
    return number


def check_path(path: object, what: str) -> Path:
    """A path that the file system can be asked for; links in it are followed."""
    if not isinstance(path, str | os.PathLike) or isinstance(os.fspath(path), bytes):
        raise InputError(f"{what} is {type(path).__name__}, expected a path (str or pathlib.Path)")
    try:
        checked = Path(path).resolve()
        checked.exists()
    except (OSError, ValueError, RuntimeError) as error:
        raise InputError(f"{what} {str(path)[:100]!r} is not a path: {error}") from error
    return checked
