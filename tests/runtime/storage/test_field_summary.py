"""fieldsummary.py: what the fields of all documents hold."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edge_embed import Document, Index
from edge_embed_runtime.storage.fieldsummary import MAX_FIELDS, MAX_VALUES, FieldSummary

Summaries = Callable[[list[dict[str, Any]]], dict[str, FieldSummary]]


@pytest.fixture
def summaries(tmp_path: Path) -> Summaries:
    """The fields of documents with these metadata."""

    def make(metadata: list[dict[str, Any]]) -> dict[str, FieldSummary]:
        with Index.create(tmp_path / "a.db", space="given", dim=4) as index:
            documents = [Document(str(number), "x", each) for number, each in enumerate(metadata)]
            index.add_vectors(documents, np.ones((len(documents), 4)))
            found = index.fields()
        assert [field.documents for field in found] == sorted((field.documents for field in found), reverse=True)
        return {field.name: field for field in found}

    return make


def test_kinds(summaries: Summaries) -> None:
    """Texts, numbers, booleans and lists; a field with several kinds is mixed; null is no value."""
    found = summaries([
        {"text": "b", "number": 2, "flag": True, "list": ["x", 1, "x", [2]], "mixed": 1, "none": None, "object": {}},
        {"text": "a", "number": -0.5, "flag": False, "list": ["x"], "mixed": "1"},
        {"text": "b", "number": 2.0, "mixed": True, "list": [], "text2": None},
    ])  # fmt: skip
    assert found["text"] == FieldSummary("text", "text", 3, (("b", 2), ("a", 1)), False, None, None)
    assert found["number"] == FieldSummary("number", "number", 3, ((2, 2), (-0.5, 1)), False, -0.5, 2)
    assert found["flag"].values == ((False, 1), (True, 1))
    assert (found["list"].kind, found["list"].values) == ("list", (("x", 2), (1, 1)))
    assert (found["mixed"].kind, {type(value) for value, _ in found["mixed"].values}) == ("mixed", {int, str, bool})
    assert [found[name].kind for name in ("none", "object", "text2")] == ["other"] * 3


def test_values_that_are_left_out_are_said(summaries: Summaries) -> None:
    """Bounded numbers of values and fields; numbers keep their limits beyond that."""
    found = summaries([{"id": number, "long": "x" * 300, **{f"f{number}": 1}} for number in range(MAX_FIELDS + 10)])
    assert (found["id"].more, len(found["id"].values)) == (True, MAX_VALUES)
    assert (found["id"].least, found["id"].most, found["id"].documents) == (0, MAX_FIELDS + 9, MAX_FIELDS + 10)
    assert (found["long"].more, found["long"].values) == (True, ())
    assert len(found) == MAX_FIELDS


def test_damaged_metadata_are_left_out(tmp_path: Path) -> None:
    """A row that is no JSON any more hides only itself."""
    import sqlite3

    with Index.create(tmp_path / "a.db", space="given", dim=4) as index:
        index.add_vectors([Document(name, "x", {"name": name}) for name in "abc"], np.ones((3, 4)))
    with sqlite3.connect(tmp_path / "a.db") as db:
        db.execute("UPDATE doc SET metadata = '{broken' WHERE key = 'b'")
    db.close()
    with Index.open(tmp_path / "a.db", read_only=True) as index:
        assert index.fields() == [FieldSummary("name", "text", 2, (("a", 1), ("c", 1)), False, None, None)]


def test_an_index_without_metadata(summaries: Summaries) -> None:
    """It has no fields."""
    assert summaries([{}]) == {}
