"""Answers that are cut to a number of characters: what is left out is named."""

import json
from collections.abc import Mapping
from typing import Any

# Braces, names and numbers around a document, roughly.
FRAME = 120
# Names of what was cut that are listed, and characters of one.
NAMES, NAME = 20, 100


class Fitting:
    """The characters of an answer, while documents are put into it.

    field:    the most that one field of the metadata takes
    left_out: documents that did not fit at all
    was_cut:  whether a document lost a part
    """

    def __init__(self, characters: int, field: int) -> None:
        self._most = self._left = characters
        self._field = field
        self.left_out = 0
        self.was_cut = False

    def document(self, key: str, text: str, metadata: Mapping[str, Any], *, begins: int) -> dict[str, Any] | None:
        """`text` and `metadata` of a document as far as they fit, with `cut` for what does not. None where not even the
        key and the first `begins` characters do: the answer ends there."""
        least = min(len(text), begins)
        room = self._left - FRAME - len(key) - least
        if self.left_out or room < 0:
            self.left_out += 1
            return None
        kept, cut, room = _fields(metadata, room, self._field)
        shown = text[: least + room]
        if len(shown) < len(text):
            cut.insert(0, "text")
        self._left = room - (len(shown) - least)
        self.was_cut |= bool(cut)
        return {"text": shown, "metadata": kept, **({"cut": cut[:NAMES]} if cut else {})}

    def note(self) -> str | None:
        """What to say where something did not fit."""
        parts = [f"{self.left_out} more did not fit"] if self.left_out else []
        parts += ["some are cut"] if self.was_cut else []
        limit = f"an answer has about {self._most:,} characters at most; ask for fewer, or read one by its key"
        return f"{' and '.join(parts)}: {limit}" if parts else None


def _fields(metadata: Mapping[str, Any], room: int, most: int) -> tuple[dict[str, Any], list[str], int]:
    """The fields that fit and are not longer than `most`, the names of the others, and what is left of the room."""
    kept: dict[str, Any] = {}
    cut: list[str] = []
    for name, value in metadata.items():
        size = len(name) + len(json.dumps(value, ensure_ascii=False)) + 4
        if size <= min(room, most):
            kept[name] = value
            room -= size
        else:
            cut.append(f"metadata.{name[:NAME]}")
    return kept, cut, room
