"""The data of a front end, read strictly: what is missing, left over or not understood is refused by its name."""

import math
from collections.abc import Collection, Mapping
from typing import Any

from edge_embed_runtime.checks import listed, shown
from edge_embed_runtime.errors import BundleFormatError


class Fields:
    """One dict of a front end. Each field is taken once; `done` refuses those that nobody took.

    where: what the messages call it, as "front.resize"
    """

    def __init__(self, given: object, where: str) -> None:
        if not isinstance(given, Mapping) or not all(isinstance(name, str) for name in given):
            raise BundleFormatError(f"{where} is {shown(given)}, expected names and values")
        self.where = where
        self._left = dict(given)

    def has(self, name: str) -> bool:
        """Whether a field is there that nobody took yet."""
        return name in self._left

    def holds(self, name: str, kind: type) -> bool:
        """Whether a field that nobody took yet is of a type."""
        return isinstance(self._left.get(name), kind)

    def take(self, name: str) -> Any:
        """A field as it stands."""
        if name not in self._left:
            raise BundleFormatError(f"{self.where}.{name} is missing")
        return self._left.pop(name)

    def part(self, name: str) -> "Fields | None":
        """The fields inside a field; None where it is null."""
        value = self.take(name)
        return None if value is None else Fields(value, f"{self.where}.{name}")

    def choice(self, name: str, allowed: Collection[str]) -> str:
        """One of a few names."""
        value = self.take(name)
        if not isinstance(value, str) or value not in allowed:
            raise self.wrong(name, value, f"one of {listed(allowed)}")
        return value

    def whole(self, name: str, least: int, most: int) -> int:
        """A whole number from `least` to `most`."""
        value = self.take(name)
        if not _is_whole(value) or not least <= value <= most:
            raise self.wrong(name, value, f"a whole number from {least} to {most}")
        return int(value)

    def wholes(self, name: str, count: int, least: int, most: int) -> tuple[int, ...]:
        """`count` whole numbers, each from `least` to `most`."""
        value = self.take(name)
        if not _is_row(value, count) or not all(_is_whole(one) and least <= one <= most for one in value):
            raise self.wrong(name, value, f"{count} whole numbers from {least} to {most}")
        return tuple(value)

    def number(self, name: str) -> float:
        """A finite number."""
        value = self.take(name)
        if not _is_number(value):
            raise self.wrong(name, value, "a finite number")
        return float(value)

    def numbers(self, name: str, count: int) -> tuple[float, ...]:
        """`count` finite numbers."""
        value = self.take(name)
        if not _is_row(value, count) or not all(map(_is_number, value)):
            raise self.wrong(name, value, f"{count} finite numbers")
        return tuple(map(float, value))

    def done(self) -> None:
        """Refuse the fields that are left: this release does not know them."""
        if self._left:
            raise BundleFormatError(f"{self.where} has fields that this release does not know: {listed(self._left)}")

    def wrong(self, name: str, value: object, expected: str) -> BundleFormatError:
        """What to raise for a value that is not understood."""
        return BundleFormatError(f"{self.where}.{name} is {shown(value)}, expected {expected}")


def _is_row(value: object, count: int) -> bool:
    return isinstance(value, list | tuple) and len(value) == count


def _is_whole(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
