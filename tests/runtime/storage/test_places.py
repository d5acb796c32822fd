"""Places of documents: where pages, chapters and headings begin, stored and given out with hits."""

import json
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from builders.commands import run
from builders.files import alter

from edge_embed import (
    Document,
    DocumentError,
    Embedder,
    Index,
    IndexDamagedError,
    MemoryBudgetError,
    dump_vectors,
    load_vectors,
    reembed_index,
    verify_index,
)
from edge_embed_runtime.storage.documents import MAX_LABEL_CHARACTERS, MAX_PLACES
from edge_embed_runtime.system.memory import rss_bytes

FIRST, SECOND = "Rain falls on the hills. " * 40, "Trains leave the station at noon. " * 40 + "The last is at midnight."
BOOK = Document("book", FIRST + SECOND, {"lang": "en"}, [(0, "page 1"), (len(FIRST), "page 2")])
PLACES = ((0, "page 1"), (len(FIRST), "page 2"))


def tables(path: Path) -> set[str]:
    with closing(sqlite3.connect(path)) as db:
        return {name for (name,) in db.execute("SELECT name FROM sqlite_schema")}


@pytest.fixture
def path(tmp_path: Path, embedder: Embedder) -> Path:
    """An index with one document that has places and one that has none."""
    with Index.open(tmp_path / "docs.db", embedder) as index:
        index.add([BOOK, Document("note", "Bread is baked before dawn.")])
    return tmp_path / "docs.db"


@pytest.mark.parametrize("mode", ["hybrid", "vector", "text"])
@pytest.mark.parametrize("budget", [None, 2000.0])
def test_hits_say_where_their_passage_begins(path: Path, embedder: Embedder, mode: Any, budget: float | None) -> None:
    """The last place that starts at or before the first character of the passage that is not blank, with and without
    a memory budget; None without places."""
    with Index.open(path, embedder, read_only=True, max_rss_mb=budget) as index:
        (hit,) = index.search("the last train at midnight", k=1, mode=mode)
        assert hit.start >= len(FIRST)
        assert hit.place == "page 2"
        (hit,) = index.search("rain falls on hills", k=1, mode=mode)
        assert hit.start < len(FIRST)
        assert hit.place == "page 1"
        (hit,) = index.search("bread is baked", k=1, mode=mode)
        assert (hit.key, hit.place) == ("note", None)


def test_the_place_is_that_of_the_first_character_that_is_not_blank(tmp_path: Path) -> None:
    """Blanks before a heading belong to the page before it; of equal starts the last counts; before the first place
    there is none; a text that is empty or blank has the place of its start."""
    cases = {
        "blank": ("   \n text", [(0, "page 1"), (5, "page 2")], "page 2"),
        "equal": ("text", [(0, "empty page"), (0, "page 2")], "page 2"),
        "before": ("text and more", [(5, "later")], None),
        "empty": ("", [(0, "picture")], "picture"),
        "spaces": ("    ", [(0, "a"), (4, "b")], "a"),
    }
    with Index.create(tmp_path / "docs.db", space="s", dim=2) as index:
        documents = [Document(key, text, {}, places) for key, (text, places, _) in cases.items()]
        index.add_vectors(documents, [[1, 0]] * len(documents))
        assert {hit.key: hit.place for hit in index.search(vector=[1, 0])} == {
            key: expected for key, (_, _, expected) in cases.items()
        }


def test_an_index_without_places_is_as_before(tmp_path: Path, embedder: Embedder) -> None:
    """The table is made with the first document that has places."""
    path = tmp_path / "docs.db"
    with Index.open(path, embedder) as index:
        index.add([Document("a", "one text"), Document("b", "another", {}, [])])
        assert "place" not in tables(path)
        index.upsert([Document("b", "another", {}, [(0, "page 1")])])
    assert "place" in tables(path)


def test_readers_follow_the_first_places(path: Path, tmp_path: Path, embedder: Embedder) -> None:
    """An index that was opened before any document had places finds those that another one stores."""
    other = tmp_path / "other.db"
    with Index.open(other, embedder) as writer:
        writer.add([Document("note", "Bread is baked before dawn.")])
        with Index.open(other, embedder, read_only=True) as reader:
            assert reader.search("bread", k=1)[0].place is None
            writer.upsert([Document("note", "Bread is baked before dawn.", {}, [(0, "p. 7")])])
            assert reader.search("bread", k=1)[0].place == "p. 7"
            assert reader.get("note") == Document("note", "Bread is baked before dawn.", {}, ((0, "p. 7"),))
            assert reader.unchanged([Document("note", "Bread is baked before dawn.")]) == set()


def test_a_change_of_places_is_a_change(path: Path, embedder: Embedder) -> None:
    with Index.open(path, embedder) as index:
        assert index.get("book") == Document("book", BOOK.text, {"lang": "en"}, PLACES)
        assert index.unchanged([BOOK]) == {"book"}
        assert index.upsert([BOOK]) == 0
        without = Document("book", BOOK.text, {"lang": "en"})
        assert index.unchanged([without]) == set()
        assert index.upsert([without]) == 1
        assert index.get("book") == without
        assert index.upsert([BOOK]) == 1
        assert [document for document in index if document.places] == [index.get("book")]
        assert index.get_many(["note", "book"])[1] == index.get("book")
        assert index.update_metadata("book", {"lang": "de"}) == 1
        assert index.get("book") == Document("book", BOOK.text, {"lang": "de"}, PLACES)
        index.delete("book")
        assert index.get("book") is None
    with closing(sqlite3.connect(path)) as db:
        assert db.execute("SELECT count(*) FROM place").fetchone() == (0,)
    assert verify_index(path).whole


def test_places_outlive_maintenance(path: Path, tmp_path: Path, embedder: Embedder) -> None:
    """compact, backup, rebuild, repair and a change of the model keep them."""
    with Index.open(path, embedder) as index:
        index.compact()
        index.rebuild()
        index.backup(tmp_path / "copy.db", compact=True)
        assert index.repair().whole
    reembed_index(tmp_path / "copy.db", Embedder(truncate_dim=64, threads=1))
    for file, model in ((path, embedder), (tmp_path / "copy.db", Embedder(truncate_dim=64, threads=1))):
        assert verify_index(file).whole
        with Index.open(file, model, read_only=True) as index:
            found = index.get("book")
            assert found is not None
            assert found.places == PLACES
            assert index.search("trains at the station", k=1)[0].place == "page 2"


@pytest.mark.parametrize(
    "damage",
    [
        "UPDATE place SET label = 'page 9' WHERE number = 1",
        "UPDATE place SET start = start - 1 WHERE number = 1",
        "UPDATE place SET crc = 7 WHERE number = 0",
        "DELETE FROM place WHERE number = 0",
    ],
)
def test_damaged_places_are_said(path: Path, embedder: Embedder, damage: str) -> None:
    """Nothing is returned with a wrong label; repair deletes what is damaged and names the document."""
    alter(path, damage)
    report = verify_index(path)
    assert [tuple(one) for one in report.damaged] == [("book", "its places are damaged")]
    with Index.open(path, embedder) as index:
        with pytest.raises(IndexDamagedError, match="places of the document 'book' are damaged"):
            index.get("book")
        assert index.unchanged([BOOK]) == set()
        done = index.repair()
        assert done.whole
        assert done.unplaced == ["book"]
        assert "places" in done.rebuilt
        found = index.get("book")
        assert found is not None
        assert found.places == ()
        assert index.upsert([BOOK]) == 1
        assert index.search("trains at the station", k=1)[0].place == "page 2"
    assert verify_index(path).whole


def test_a_hit_with_a_damaged_label_is_left_out(path: Path, embedder: Embedder) -> None:
    alter(path, "UPDATE place SET label = 'page 9' WHERE number = 1")
    with Index.open(path, embedder, read_only=True) as index:
        assert [hit.key for hit in index.search("trains at the station")] == ["note"]
        assert index.damaged
    with Index.open(path, embedder, read_only=True) as index:
        assert [document.key for document in index.find()] == ["note"]
        assert index.damaged
        with pytest.raises(IndexDamagedError, match="places of the document 'book' are damaged"):
            index.get_many(["book"])


def test_lost_and_stray_places_are_said(path: Path, embedder: Embedder) -> None:
    """The last place of a document leaves no gap, yet its loss is noticed; so are places of no document."""
    alter(path, "DELETE FROM place WHERE number = 1")
    assert not verify_index(path).whole
    with Index.open(path, embedder) as index:
        assert index.repair().rebuilt == ["count of documents"]
    alter(path, "INSERT INTO place VALUES (99, 0, 0, 'page 1', 5)")
    assert "places of 1 documents that are not there" in verify_index(path).problems
    with Index.open(path, embedder) as index:
        assert index.repair().whole
    assert verify_index(path).whole


def test_a_document_that_is_embedded_again_keeps_its_places(path: Path, embedder: Embedder) -> None:
    alter(path, "UPDATE vec SET crc = 1 WHERE doc = (SELECT id FROM doc WHERE key = 'book')")
    with Index.open(path, embedder) as index:
        assert index.repair().restored == ["book"]
        found = index.get("book")
        assert found is not None
        assert found.places == PLACES
    assert verify_index(path).whole


@pytest.mark.parametrize(
    ("places", "said"),
    [
        ("page 1", "places is str, expected a list of"),
        ({0: "page 1"}, "places is dict"),
        ([0], r"place 0 is 0, expected \(start, label\)"),
        ([(0, "a", "b")], "place 0 is"),
        ([("0", "a")], "place 0 starts at '0', expected a whole number from 0 to 4"),
        ([(True, "a")], "place 0 starts at True"),
        ([(-1, "a")], "place 0 starts at -1"),
        ([(5, "a")], "place 0 starts at 5"),
        ([(2, "a"), (1, "b")], "place 1 starts at 1, expected a whole number from 2 to 4"),
        ([(0, 7)], "place 0: label is int, expected str"),
        ([(0, " ")], "label ' ' cannot be used"),
        ([(0, "a\nb")], "cannot be used: expected one line"),
        ([(0, "a" * (MAX_LABEL_CHARACTERS + 1))], "cannot be used"),
        ([(0, "\ud800")], "place 0: label holds a lone surrogate"),
        ([(0, "a")] * (MAX_PLACES + 1), "100,001 places, expected at most 100,000"),
    ],
)
def test_places_that_cannot_be_stored(tmp_path: Path, embedder: Embedder, places: Any, said: str) -> None:
    """One error that names the document and the place; nothing is stored."""
    with Index.open(tmp_path / "docs.db", embedder) as index:
        with pytest.raises(DocumentError, match=said) as caught:
            index.add([Document("good", "a text"), Document("bad", "text", {}, places)])
        assert caught.value.keys == ("bad",)
        assert len(index) == 0


def test_a_budget_counts_places(tmp_path: Path) -> None:
    """Documents are given as without one; where their places alone are too much, there is an error and no more."""
    path, many = tmp_path / "docs.db", [(i, f"line {i}") for i in range(50_000)]
    with Index.create(path, space="s", dim=2) as index:
        index.add_vectors([Document(key, "x" * 50_000, {}, many) for key in "ab"], [[1, 0], [0, 1]])
        expected = list(index.find()), index.get_many(["a", "b"])
    with Index.open(path, read_only=True, max_rss_mb=4000) as index:
        assert (list(index.find()), index.get_many(["a", "b"])) == expected
        assert index.search(vector=[1, 0], k=1)[0].place == "line 0"
    with Index.open(path, read_only=True, max_rss_mb=(rss_bytes() or 0) / 1e6 + 10) as index:
        with pytest.raises(MemoryBudgetError, match="2 documents have places that take "):
            index.get_many(["a", "b"])
        assert index.search(vector=[1, 0], k=1)[0].place == "line 0"


def test_the_command_shows_places(path: Path) -> None:
    assert "page 2" in run("search", path, "trains at the station", "-k", "1").stdout
    found = json.loads(run("search", path, "trains at the station", "-k", "1", "--json").stdout)
    assert found["hits"][0]["place"] == "page 2"


@pytest.mark.parametrize("suffix", [".npz", ".parquet", ".arrow"])
@pytest.mark.parametrize("codes", [False, True])
def test_a_dump_has_the_place_of_each_passage(path: Path, tmp_path: Path, suffix: str, codes: bool) -> None:
    """And the one document that is loaded for each passage has it too; a dump without places has no such column."""
    if suffix != ".npz":
        pytest.importorskip("pyarrow")
    with Index.create(tmp_path / "given.db", space="s", dim=2) as index:
        places = [(0, "page 1")]
        index.add_vectors([Document("a", "text", {"n": 1}, places), Document("b", "other")], [[1, 0], [0, 1]])
    file = tmp_path / f"out{suffix}"
    assert dump_vectors(tmp_path / "given.db", file, codes=codes).rows == 2
    load_vectors(tmp_path / "loaded.db", file, space="s")
    with Index.open(tmp_path / "loaded.db") as index:
        assert index.get("a") == Document("a", "text", {"n": 1}, ((0, "page 1"),))
        assert index.get("b") == Document("b", "other")
        index.upsert_vectors([Document("a", "text")], [[1, 0]])
    alter(tmp_path / "loaded.db", "DROP TABLE place")
    dump_vectors(tmp_path / "loaded.db", file, codes=codes, force=True)
    assert suffix != ".npz" or "places" not in np.load(file).files


def test_a_dump_leaves_out_damaged_labels(path: Path, tmp_path: Path) -> None:
    whole = dump_vectors(path, tmp_path / "out.npz")
    with np.load(tmp_path / "out.npz") as arrays:
        labels = arrays["places"].tobytes().decode()
        assert labels == "page 1" * labels.count("1") + "page 2" * labels.count("2")
        assert (labels.count("page") + 1, labels.count("2") > 0) == (whole.rows, True)  # the note has none
    alter(path, "UPDATE place SET label = 'page 9' WHERE number = 1")
    assert dump_vectors(path, tmp_path / "out.npz", force=True).damaged == labels.count("2")
