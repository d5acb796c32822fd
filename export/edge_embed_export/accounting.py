"""What was read of a folder: a tensor or a key that nothing asked for is harmless, as a table here says, or refused."""

from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import Any, TypeVar

from edge_embed_runtime.errors import ExportError

# Keys that change no vector, by what kind of file they stand in.
HARMLESS: dict[str, frozenset[str]] = {}

Value = TypeVar("Value")


class Accounted(Mapping[str, Value]):
    """A mapping that remembers the names whose values were asked for. `in` and iteration ask for nothing."""

    def __init__(self, held: Mapping[str, Value]) -> None:
        self._held = held
        self._read: set[str] = set()

    def __getitem__(self, name: str) -> Value:
        value = self._held[name]
        self._read.add(name)
        return value

    def __contains__(self, name: object) -> bool:
        return name in self._held

    def __iter__(self) -> Iterator[str]:
        return iter(self._held)

    def __len__(self) -> int:
        return len(self._held)

    def unread(self) -> list[str]:
        """Names that nothing asked for, in the order of the file."""
        return [name for name in self._held if name not in self._read]


def refuse_unknown(path: Path, held: Mapping[str, Any], known: Collection[str], what: str = "key") -> None:
    """Raise ExportError for the first key of a small JSON file that is not known.

    known: what the caller reads, and what HARMLESS says of such a file
    """
    for name, value in held.items():
        if name not in known:
            raise ExportError(
                f"{path}: the {what} {name!r} ({value!r:.60}) is not known, and it may change the vectors; remove it "
                "if it does not"
            )
