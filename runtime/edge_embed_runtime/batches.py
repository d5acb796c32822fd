"""Items in batches: by their number, and by whatever else of them has a limit."""

from collections.abc import Callable, Iterable, Iterator
from typing import TypeVar

T = TypeVar("T")
# What is counted of an item, and the limit for a batch.
Limit = tuple[Callable[[T], int], int]


def batches(items: Iterable[T], most: int, *limits: "Limit[T]") -> Iterator[list[T]]:
    """Items in lists of at most `most`; a list ends earlier with the item that reaches one of the limits.

    ["ab", "c", "defg"], most=2 -> ["ab", "c"], ["defg"]; most=9, (len, 2) -> ["ab"], ["c", "defg"]
    """
    batch: list[T] = []
    held = [0] * len(limits)
    for item in items:
        batch.append(item)
        held = [size + count(item) for size, (count, _) in zip(held, limits, strict=True)]
        del item  # or the last of a batch would be in memory while the next is read
        if len(batch) == most or any(size >= limit for size, (_, limit) in zip(held, limits, strict=True)):
            yield batch
            batch, held = [], [0] * len(limits)
    if batch:
        yield batch
