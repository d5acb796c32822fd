"""Rows of `meta` with a checksum of their own: each in the form that earlier releases wrote."""

import pytest

from edge_embed_runtime.search.hnsw import Verdict
from edge_embed_runtime.storage.mainfile import Content, Position
from edge_embed_runtime.storage.notes import CRC_FIRST, DECIMAL, HEXADECIMAL, IN_LIST, Form
from edge_embed_runtime.storage.root import Root

VERDICT = Verdict(1, "cpu", 2.0, 1.0, 0.9, 0.8, 3.0, 10, "")
# As the release before the forms were written in one way stored them.
STORED = [
    (Position("0" * 16, 3, "-"), "0000000000000000 3 - 3206468973"),
    (Content(4, 2, -7), "4 2 -7 353387062"),
    (Root("/a, b", "c", True), '["/a, b", "c", true, 4036471544]'),
    (
        VERDICT,
        '6f804dd6 {"codes": 1, "cpu": "cpu", "exact_ms": 2.0, "graph_ms": 1.0, "exact_recall": 0.9, '
        '"graph_recall": 0.8, "build_seconds": 3.0, "bytes": 10, "sha256": ""}',
    ),
]


@pytest.mark.parametrize(("note", "stored"), STORED, ids=lambda value: type(value).__name__)
def test_notes_are_stored_as_by_earlier_releases(note: Position | Content | Root | Verdict, stored: str) -> None:
    """Read again they are the same; a changed character is noticed."""
    assert note.to_text() == stored
    assert type(note).from_text(stored) == note
    for i, character in enumerate(stored):
        assert type(note).from_text(stored[:i] + chr(ord(character) ^ 1) + stored[i + 1 :]) is None


@pytest.mark.parametrize("form", [DECIMAL, HEXADECIMAL, CRC_FIRST, IN_LIST])
def test_texts_come_back_or_nothing(form: Form) -> None:
    """Also texts that look like the form itself, and such as damaged UTF-8 gives."""
    for inner in ("", "7", "1, 2", "a 1790921346", "{text} {crc}", "\n", "\udcff"):
        text = f"[{inner}]"
        row = form.write(text)
        assert form.read(row) == text
        assert form.read(f"{row}0") is None
        assert form.read(row[1:]) is None
    for row in (None, 7, b"7 1790921346", "", "7", "7 17909213460", "7 x"):
        assert form.read(row) is None
