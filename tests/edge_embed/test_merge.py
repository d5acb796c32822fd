"""`edge-embed merge`: indexes made apart, and files of vectors, become one index, whole or not at all."""

import json
import os
import random
import shutil
import sqlite3
import subprocess
import sys
import threading
import unicodedata
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from builders.commands import added, run, run_json
from builders.files import alter
from builders.killing import killed_at
from builders.mediaembedders import MediaEmbedder, write_picture
from numpy.typing import NDArray

from edge_embed import (
    BundleMismatchError,
    Document,
    DuplicateKeyError,
    EdgeEmbedError,
    Embedder,
    Index,
    IndexDamagedError,
    IndexFormatError,
    IndexLockedError,
    InputError,
    SourceError,
    StorageError,
    dump_vectors,
    merge_indexes,
    verify_index,
)
from edge_embed.files import merge as merging
from edge_embed.files.merge import Merged
from edge_embed_runtime.maintenance import merge as storing
from edge_embed_runtime.storage import create as creating
from edge_embed_runtime.storage.filerecords import FileRecord
from edge_embed_runtime.storage.media import Media
from edge_embed_runtime.storage.rows import passage_crc
from edge_embed_runtime.system.lock import WriterLock

DIM = 16
CODE = b"\0\0\x80?" + bytes(range(DIM))
LONG = " ".join(f"Sentence {i} tells of ships, of harbours and of the sea." for i in range(120))
TEXTS = [*(f"Note {i} on {what}." for i in range(20) for what in ("bread", "ships", "rain")), LONG, LONG[:5000]]
DOCUMENTS = [Document(f"d{i}", text, {"n": i, "even": i % 2 == 0}) for i, text in enumerate(TEXTS)]


def vectors(count: int, seed: int = 0) -> NDArray[np.float32]:
    return np.random.default_rng(seed).standard_normal((count, DIM)).astype(np.float32)


def given(path: Path | str, *keys: str, space: str = "s", seed: int = 0, **options: Any) -> Path:
    """An index of given vectors, with a document for each key."""
    with Index.create(path, space=space, dim=DIM, **options) as index:
        index.add_vectors([Document(key, f"Text of {key}.", {"seed": seed}) for key in keys], vectors(len(keys), seed))
    return Path(path)


def stored(path: Path | str) -> list[tuple[Any, ...]]:
    """Every passage with its document, bit for bit, in their order."""
    query = "SELECT key, text, metadata, start, stop, code FROM vec JOIN doc ON doc.id = vec.doc ORDER BY vec.id"
    with closing(sqlite3.connect(path)) as db:
        return db.execute(query).fetchall()


def keys(path: Path | str) -> list[str]:
    with Index.open(path, read_only=True) as index:
        return list(index.keys())


def files() -> list[str]:
    """Files of the working directory but for locks, and what SQLite keeps beside an index."""
    return sorted(path.name for path in Path().iterdir() if not path.name.endswith(("-wal", "-shm", ".lock")))


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture(scope="module")
def static() -> Embedder:
    return Embedder("static", threads=1)


@pytest.fixture
def parts(static: Embedder) -> list[str]:
    """Three indexes, made apart; and one of all documents at once."""
    for name, documents in (
        ("a.db", DOCUMENTS[:30]), ("b.db", DOCUMENTS[30:31]), ("c.db", DOCUMENTS[31:]), ("all.db", DOCUMENTS)
    ):  # fmt: skip
        with Index.open(name, static, fields=["even"]) as index:
            index.add([Document("gone", "A note that is deleted.")])
            index.add(documents)
            index.delete("gone")
    return ["a.db", "b.db", "c.db"]


def test_is_the_index_of_all_documents(parts: list[str], static: Embedder) -> None:
    """Vectors are the same bits, and searches give the same hits, as in the index of all documents at once."""
    done = merge_indexes("out.db", parts)
    passages = len(stored("all.db"))
    assert done == Merged(len(DOCUMENTS), passages, len(DOCUMENTS), 0, 0, 0, True)
    assert passages > len(DOCUMENTS)
    assert stored("out.db") == stored("all.db")
    assert verify_index("out.db").whole
    with Index.open("out.db", static, read_only=True) as one, Index.open("all.db", static, read_only=True) as other:
        for query in ("ships in a harbour", "bread and rain", "Sentence 17"):
            for mode in ("vector", "text", "hybrid"):
                hits = [
                    [(h.key, h.score, h.text, h.start) for h in i.search(query, k=10, mode=mode)] for i in (one, other)
                ]
                assert hits[0] == hits[1]
                assert hits[0]
        assert one.field_values("even") == other.field_values("even")
        assert one.stats()["fields"] == ["even"]
    with Index.open("out.db", static) as index:  # it is an index like any other
        assert index.upsert(DOCUMENTS) == 0
        index.add([Document("new", "A new note.")])
    assert verify_index("out.db").whole


def test_to_an_index_that_is_there(parts: list[str]) -> None:
    """All is added in one step; a second run changes nothing."""
    assert not merge_indexes("a.db", parts[1:]).created
    assert stored("a.db") == stored("all.db")
    assert verify_index("a.db").whole
    done = merge_indexes("a.db", parts[1:])
    assert (done.stored, done.unchanged, done.documents) == (0, 32, 62)
    assert stored("a.db") == stored("all.db")


def test_everything_is_kept() -> None:
    """Places, documents without a vector, records of files, and what was deleted."""
    book = Document("a.txt#1", "The ferry leaves. The cat sleeps.", {"source": "a.txt"}, ((0, "p. 1"), (18, "p. 2")))
    bare = Document("b.txt", "A ship without a vector.", {"source": "b.txt"}, ((2, "p. 1"),))
    records = [FileRecord(f"{n}.txt", 10, 1, 2, n.encode() * 16, b"r" * 8, 1, "") for n in "ab"]
    wrong = records[0]._replace(key="c.txt", documents=3)
    for name, document, vector, record in (("1.db", book, vectors(1)[0], records[0]), ("2.db", bare, None, records[1])):
        with Index.create(name, space="s", dim=DIM, words="plain") as index:
            index.add_vectors([document, Document("gone", "Gone.")], [vector, None])
            index.delete("gone")
            index.files.record([record, wrong])
    merge_indexes("out.db", ["1.db", "2.db"])
    assert verify_index("out.db").whole
    with Index.open("out.db", read_only=True) as index:
        assert list(index) == [book, bare]
        assert {hit.key: hit.place for hit in index.search("cat ship", mode="text")} == {
            "a.txt#1": "p. 1",
            "b.txt": None,
        }
        assert index.stats()["without_vector"] == 1
        assert index.stats()["words"] == "plain"
        assert index.files.records(["a.txt", "b.txt", "c.txt"]) == {record.key: record for record in records}


def test_pictures_are_kept() -> None:
    """Their vectors, captions, thumbnails and files."""
    towers, small = MediaEmbedder(), b"RIFF\0\0\0\0WEBP and so on"
    photos = {
        name: write_picture(Path(f"{name}.jpg").resolve(), words)
        for name, words in (("boat", "a boat|a dog"), ("rain", "rain"))
    }
    for name, photo in photos.items():
        with Index.open(f"{name}.db", towers) as index:
            index.add([Document(name, f"A caption of {name}", image=photo), Document(f"{name}-note", "A note.")])
            known = index.get(name)
            assert known is not None
            index.upsert(
                [
                    replace(
                        known,
                        text="Another caption",
                        image=Media("image", str(photo), known.image.sha256, thumbnail=small),
                    )
                ]
            )
    done = merge_indexes("out.db", ["boat.db", "rain.db"])
    assert (done.documents, done.passages) == (4, 7)
    assert verify_index("out.db").whole
    assert stored("out.db") == stored("boat.db") + stored("rain.db")
    with Index.open("out.db", towers, read_only=True) as index:
        assert index.thumbnail("boat") == small
        assert index.search("a dog", mode="vector")[0].key == "boat"
        found = index.get("rain")
        assert found is not None
        assert Path(found.image.source) == photos["rain"]
    with Index.open("out.db", towers) as index:
        before = len(towers.embedded)
        assert index.upsert([found]) == 0
        assert len(towers.embedded) == before


def test_files_are_named_from_one_root(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of indexes with different roots, and of indexes with the same one; `add` then finds nothing to do."""
    monkeypatch.setenv("EDGE_EMBED_BUNDLE", "static")
    for folder in ("x", "y"):
        Path(folder).mkdir()
        Path(folder, "same.txt").write_text(f"A note of {folder}.")
        Path(folder, "rows.jsonl").write_text(json.dumps({"text": f"A row of {folder}."}) + "\n")
        assert run("add", f"{folder}/i.db", folder).exit_code == 0
        assert run("add", f"{folder}.db", folder).exit_code == 0
    merge_indexes("out.db", ["x/i.db", "y/i.db"])
    assert sorted(keys("out.db")) == ["x/rows.jsonl:1", "x/same.txt", "y/rows.jsonl:1", "y/same.txt"]
    shutil.move("out.db", "a.db")
    done = added("x", "y", "--sync")
    assert (done["stored"], done["deleted"], done["unchanged"]) == (0, 0, 4)
    merge_indexes("one.db", ["x.db", "y.db"])
    assert keys("one.db") == keys("a.db")
    Path("x/same.txt").unlink()
    assert added("x", "--sync")["deleted"] == 1
    assert verify_index("a.db").whole


def test_names_without_a_root(monkeypatch: pytest.MonkeyPatch, static: Embedder) -> None:
    """They stay as they are; beside them those of an index with a root are absolute, unless the output has one."""
    monkeypatch.setenv("EDGE_EMBED_BUNDLE", "static")
    Path("x").mkdir()
    Path("x/note.txt").write_text("A note.")
    assert run("add", "rooted.db", "x").exit_code == 0
    for name in ("typed.db", "out.db"):
        with Index.open(name, static) as index:
            index.add([Document(f"{name} page", "A page.", {"source": "https://example.org/page"})])
    merge_indexes("out.db", ["rooted.db", "typed.db"])
    assert sorted(keys("out.db")) == sorted([str(Path("x/note.txt").resolve()), "out.db page", "typed.db page"])
    merge_indexes("new.db", ["typed.db", "rooted.db"])
    assert keys("new.db") == ["typed.db page", "x/note.txt"]
    with Index.open("new.db", read_only=True) as index:
        found = index.get("typed.db page")
        assert found is not None
        assert found.metadata == {"source": "https://example.org/page"}


def test_addresses_are_no_files(monkeypatch: pytest.MonkeyPatch, static: Embedder) -> None:
    """A `source` on the web stays as it is, where files beside it are named from another root."""
    monkeypatch.setenv("EDGE_EMBED_BUNDLE", "static")
    page = Document("https://example.org//page", "A page.", {"source": "https://example.org//page"})
    for folder in ("x", "y"):
        Path(folder).mkdir()
        Path(folder, "note.txt").write_text(f"A note of {folder}.")
        assert run("add", f"{folder}/i.db", folder).exit_code == 0
    with Index.open("x/i.db", static) as index:
        index.add([page])
    merge_indexes("out.db", ["x/i.db", "y/i.db"])
    assert keys("out.db") == [page.key, "x/note.txt", "y/note.txt"]
    with Index.open("out.db", read_only=True) as index:
        assert index.get(page.key) == page


def test_root_and_records_come_with_the_documents(monkeypatch: pytest.MonkeyPatch, static: Embedder) -> None:
    """A merge into an empty index that ends before it has stored all has stored nothing: with documents but without
    their root, the next one would name the same files in another way."""
    monkeypatch.setenv("EDGE_EMBED_BUNDLE", "static")
    Path("x").mkdir()
    Path("x/note.txt").write_text("A note.")
    assert run("add", "x/i.db", "x").exit_code == 0
    Index.open("out.db", static).close()
    with monkeypatch.context() as patch:
        patch.setattr(storing, "drop_doubtful", lambda *_: (_ for _ in ()).throw(StorageError("full")))
        with pytest.raises(StorageError, match="full"):
            merge_indexes("out.db", ["x/i.db"])
    assert keys("out.db") == []
    merge_indexes("out.db", ["x/i.db"])
    assert keys("out.db") == ["note.txt"]
    with Index.open("out.db", read_only=True) as index:
        assert list(index.files.records(["note.txt"])) == ["note.txt"]


def test_fields_of_many_indexes() -> None:
    """Those of all together may be too many: then they are chosen."""
    for name in "ab":
        given(f"{name}.db", name, fields=[f"{name}{i}" for i in range(20)])
    with pytest.raises(InputError, match="the indexes have 40 fields together, and an index at most 32: choose them"):
        merge_indexes("out.db", ["a.db", "b.db"])
    merge_indexes("out.db", ["a.db", "b.db"], fields=["a0", "b0"])
    with Index.open("out.db", read_only=True) as index:
        assert index.stats()["fields"] == ["a0", "b0"]


@pytest.mark.parametrize(
    ("options", "what"),
    [
        ({"space": "other"}, "vectors of the space 'other', dim 16, and .* the space 's', dim 16"),
        ({"words": "plain"}, "was made with words='plain', .* with 'english'"),
    ],
)
@pytest.mark.parametrize("there", [False, True])
def test_other_vectors_are_refused(options: dict[str, Any], what: str, there: bool) -> None:
    """By the name of the file that does not fit, before anything is written."""
    given("a.db", "a")
    given("b.db", "b", **options)
    if there:
        shutil.copy("a.db", "out.db")
    before = files()
    with pytest.raises(BundleMismatchError if "space" in options else InputError, match=what) as caught:
        merge_indexes("out.db", ["a.db", "b.db"])
    assert Path(str(caught.value.path)).name == "b.db"
    assert files() == before
    assert not there or keys("out.db") == ["a"]


def test_other_dims_bundles_and_late_chunking_are_refused(static: Embedder, embedder: Embedder) -> None:
    late: dict[str, Any] = {"late_chunking": True}
    models = {
        "a": (static, {}),
        "b": (embedder, {}),
        "c": (Embedder("static", truncate_dim=64), {}),
        "d": (embedder, late),
    }
    for name, (model, options) in models.items():
        Index.open(f"{name}.db", model, **options).close()
    for pair, what in (
        ("ab", "vectors of the bundle 'all-minilm-l6-v2', dim 384"),
        ("ac", "dim 64"),
        ("bd", "with late chunking"),
    ):
        with pytest.raises(BundleMismatchError, match=what):
            merge_indexes("out.db", [f"{name}.db" for name in pair])
    assert not Path("out.db").exists()


@pytest.mark.parametrize("there", [False, True])
def test_keys_in_several(there: bool) -> None:
    given("a.db", "x", "same", seed=0)
    given("b.db", "same", "y", seed=1)
    shutil.copy("a.db", "out.db") if there else None
    with pytest.raises(DuplicateKeyError, match=r"1 key has different documents \('same'; 'same' is in .* in .*b\.db"):
        merge_indexes("out.db", ["b.db"] if there else ["a.db", "b.db"])
    assert Path("out.db").exists() == there
    for choice, seed in (("first", 0), ("last", 1)):
        Path("out.db").unlink(missing_ok=True)
        shutil.copy("a.db", "out.db") if there else None
        done = merge_indexes("out.db", ["b.db"] if there else ["a.db", "b.db"], on_duplicate=choice)  # type: ignore[arg-type]
        assert done.documents == 3
        assert (done.skipped, done.replaced) == (0, 1) if there and seed else (1, 0)
        assert verify_index("out.db").whole
        with Index.open("out.db", read_only=True) as index:
            assert sorted(index.keys()) == ["same", "x", "y"]
            found = index.get("same")
            assert found is not None
            assert found.metadata == {"seed": seed}
            source = "b.db" if seed else "a.db"
            assert next(row for row in stored("out.db") if row[0] == "same") == next(
                row for row in stored(source) if row[0] == "same"
            )


def test_the_same_document_in_several_is_stored_once() -> None:
    given("a.db", "x", "y")
    shutil.copy("a.db", "b.db")
    done = merge_indexes("out.db", ["a.db", "b.db"])
    assert (done.stored, done.unchanged, done.documents) == (2, 2, 2)


def test_files_given_twice_and_the_output_itself() -> None:
    given("a.db", "x")
    Path("link.db").symlink_to("a.db")
    for inputs, what in (
        (["a.db", "a.db"], r"a\.db is given twice"), (["a.db", "link.db"], "is given twice"), ([], "nothing to merge")
    ):  # fmt: skip
        with pytest.raises(InputError, match=what):
            merge_indexes("out.db", inputs)
    with pytest.raises(InputError, match="is the output itself"):
        merge_indexes("a.db", ["a.db"])
    for inputs in ("a.db", Path("a.db"), None, 3):
        with pytest.raises(InputError, match="expected a list of paths"):
            merge_indexes("out.db", inputs)  # type: ignore[arg-type]
    with pytest.raises(InputError, match="on_duplicate is 'both'"):
        merge_indexes("out.db", ["a.db"], on_duplicate="both")  # type: ignore[arg-type]
    assert files() == ["a.db", "link.db"]


@pytest.mark.parametrize(
    ("statement", "what"),
    [
        ("UPDATE vec SET crc = 1 WHERE id = 40", "passages of the document 'b39' are damaged"),
        ("UPDATE doc SET text = 'x' WHERE key = 'b7'", "the checksum of the document 'b7' does not fit"),
        ("DELETE FROM vec WHERE id = 3", "1 documents have no passages"),
        (
            f"UPDATE vec SET doc = 1, start = 0, stop = 12, code = x'{CODE.hex()}',"
            f" crc = {passage_crc(30, 1, 0, 12, CODE)} WHERE id = 30",
            "passages of the document 'b0' are damaged",
        ),
    ],
)
@pytest.mark.parametrize("there", [False, True])
def test_a_damaged_index_is_refused(statement: str, what: str, there: bool) -> None:
    """It is named, with the document, and nothing is written."""
    given("a.db", *(f"a{i}" for i in range(50)))
    given("b.db", *(f"b{i}" for i in range(50)), seed=1)
    alter(Path("b.db"), statement)
    shutil.copy("a.db", "out.db") if there else None
    with pytest.raises(IndexDamagedError, match=f"b.db is damaged .{what}.: repair it first"):
        merge_indexes("out.db", ["b.db"] if there else ["a.db", "b.db"])
    assert ("out.db" in files()) == there
    assert not there or stored("out.db") == stored("a.db")


def test_an_index_of_an_earlier_release(monkeypatch: pytest.MonkeyPatch) -> None:
    """It stored words as the texts are: a new index has them as today's; into the old one they go as they did, until it
    is rebuilt."""
    create, word = creating.create_index, unicodedata.normalize("NFD", "가방")
    with monkeypatch.context() as patch:
        patch.setattr(creating, "create_index", lambda path, facts: create(path, replace(facts, normal="")))
        with Index.create("old.db", space="s", dim=DIM) as index:
            index.add_vectors([Document("old", f"{word} one")], vectors(1))
    with Index.create("today.db", space="s", dim=DIM) as index:
        index.add_vectors([Document("today", f"{word} two")], vectors(1))
    merge_indexes("new.db", ["old.db", "today.db"])
    merge_indexes("old.db", ["today.db"])
    with Index.open("old.db") as index:
        assert index.search(word, mode="text") == []
        assert index.verify().whole
        index.rebuild()
    for name in ("new.db", "old.db"):
        with Index.open(name, read_only=True) as index:
            assert {hit.key for hit in index.search(word, mode="text")} == {"old", "today"}
            assert "advice" not in index.stats()
        assert verify_index(name).whole


def test_what_is_no_index_is_refused() -> None:
    given("a.db", "x")
    given("old.db", "y")
    alter(Path("old.db"), "PRAGMA user_version = 1")
    Path("no.db").write_text("no index")
    Path("empty").mkdir()
    for name, kind, what in (
        ("old.db", IndexFormatError, "schema version 1; this release reads 2"),
        ("no.db", IndexFormatError, "not an edge_embed index"),
        ("missing.db", SourceError, "does not exist"),
        ("empty", SourceError, r"has no files \.parquet or \.arrow"),
    ):
        with pytest.raises(kind, match=what):
            merge_indexes("out.db", ["a.db", name])
    assert files() == ["a.db", "empty", "no.db", "old.db"]


def test_beside_writers() -> None:
    """An index may be written while it is read: one committed state is taken. The output has one writer."""
    given("a.db", "x")
    with Index.open("a.db") as index:
        merge_indexes("out.db", ["a.db"])
        index.add_vectors([Document("later", "Later.")], vectors(1))
    assert keys("out.db") == ["x"]
    given("b.db", "y")
    for out in ("out.db", "new.db"):
        lock = WriterLock(Path(out).resolve())
        try:
            with pytest.raises(IndexLockedError, match=f"{out} is open for writing in process {os.getpid()}"):
                merge_indexes(out, ["b.db"])
        finally:
            lock.release()
    assert merge_indexes("out.db", ["b.db"], timeout=5).documents == 2


def test_two_merges_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """They wait for each other, and both are done."""
    for name in "abcd":
        given(f"{name}.db", *(f"{name}{i}" for i in range(20)))
    errors: list[EdgeEmbedError] = []

    def work(pair: str) -> None:
        try:
            merge_indexes("out.db", [f"{name}.db" for name in pair], timeout=60)
        except EdgeEmbedError as error:
            errors.append(error)

    threads = [threading.Thread(target=work, args=(pair,)) for pair in ("ab", "cd")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    assert len(keys("out.db")) == 80
    assert verify_index("out.db").whole


def test_an_input_that_changes_in_between(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is taken the second time must be what was looked at the first time."""
    given("a.db", "x", "y")
    whole = merging.IndexPart.documents
    monkeypatch.setattr(merging.IndexPart, "documents", lambda part: iter([*whole(part)][: readings.pop()]))
    readings = [1, 2]
    with pytest.raises(SourceError, match="changed while it was read; nothing was written"):
        merge_indexes("out.db", ["a.db"])
    assert files() == ["a.db"]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="processes are forked")
@pytest.mark.parametrize("there", [False, True])
@pytest.mark.parametrize("kills", [4, pytest.param(40, marks=pytest.mark.slow)])
def test_killed_anywhere(there: bool, kills: int, here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The output is as it was or whole, and the next run finishes. No temporary files are left."""
    monkeypatch.setattr(storing, "STORED", 10)
    temporary = here / "temporary"
    temporary.mkdir()
    monkeypatch.setenv("SQLITE_TMPDIR", str(temporary))
    names = ["a.db", "b.db", "c.db"]
    for name in names:
        given(name, *(f"{name}{i}" for i in range(15)), seed=ord(name[0]))
    command = ("merge", "out.db", *names[there:])

    def begin() -> None:
        for path in Path().glob("*out.db*"):
            path.unlink()
        for path in Path().glob(".out.db*"):
            path.unlink()
        shutil.copy("a.db", "out.db") if there else None

    begin()
    lines = killed_at(None, *command)
    expected, old = stored("out.db"), stored("a.db")
    for _ in range(kills):
        begin()
        line = random.randint(1, lines - 1)  # noqa: S311 - of a test
        assert killed_at(line, *command) < line  # 0, or a run of some lines less that ended before
        assert list(temporary.iterdir()) == []
        found = stored("out.db") if Path("out.db").exists() else None
        assert found in (old if there else None, expected)
        run_json(*command)
        assert stored("out.db") == expected
        assert verify_index("out.db").whole
        assert [name for name in files() if name.startswith(".")] == []


def test_what_a_killed_merge_left_goes() -> None:
    """Also what it was killed at before there was an empty index; nothing of others."""
    given("a.db", "x", "y")
    for name in (".out.db.merging_", "..out.db.merging_.675f7b58", "..out.db.merging_.675f7b58-journal", ".out.dbx"):
        Path(name).write_bytes(b"left")
    merge_indexes("out.db", ["a.db"])
    assert [name for name in files() if name.startswith(".")] == [".out.dbx"]


@pytest.mark.skipif(os.name == "nt", reason="POSIX limits")
@pytest.mark.parametrize(("there", "documents_a_commit"), [(False, 4096), (False, 10), (True, 4096)])
def test_a_full_disk(there: bool, documents_a_commit: int) -> None:
    """A limit on the size of files stands for it: the output is as it was. With few documents a commit there is still
    room in the log when there is none in the file itself."""
    given("a.db", *(f"a{i}" for i in range(20)))
    given("b.db", *(f"b{i}" for i in range(2000)))
    shutil.copy("a.db", "out.db") if there else None
    program = (
        "import resource, signal, sys; signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "sys.dont_write_bytecode = True\n"
        "from edge_embed import merge_indexes, StorageError\nimport edge_embed.files.merge\n"
        f"from edge_embed_runtime.maintenance import merge\nmerge.STORED = {documents_a_commit}\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (150_000, 150_000))\n"
        "try: merge_indexes('out.db', sys.argv[1:])\nexcept StorageError as error: print(error)"
    )
    names = ["b.db"] if there else ["a.db", "b.db"]
    done = subprocess.run([sys.executable, "-c", program, *names], capture_output=True, text=True, check=False)
    assert "out.db" in done.stdout
    assert done.stderr == ""
    assert ("out.db" in files()) == there
    assert not [name for name in files() if name.startswith(".out.db")]
    assert not there or stored("out.db") == stored("a.db")


def test_too_full_a_temporary_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is remembered of keys finds no room."""
    given("a.db", "x")

    def full(*_: Any) -> None:
        raise StorageError("full", code="disk_full")

    monkeypatch.setattr("edge_embed_runtime.maintenance.mergesurvey.Survey.see", full)
    with pytest.raises(StorageError, match="full"):
        merge_indexes("out.db", ["a.db"])
    assert files() == ["a.db"]


# Files of vectors


@pytest.fixture
def shards() -> list[str]:
    """Of two indexes, what `dump` writes: with vectors and with codes."""
    pytest.importorskip("pyarrow")
    given("a.db", "a0", "a1", "a2")
    given("b.db", "b0", "b1", seed=1)
    dump_vectors("a.db", "a.parquet")
    dump_vectors("b.db", "b.arrow", codes=True)
    return ["a.parquet", "b.arrow"]


def test_dumps(shards: list[str]) -> None:
    """The bits of the vectors are those of the indexes; an index and files go together."""
    merge_indexes("indexes.db", ["a.db", "b.db"])
    merge_indexes("files.db", shards)
    merge_indexes("both.db", ["a.db", "b.arrow"], fields=["seed"])
    Path("shards").mkdir()
    for name in shards:
        shutil.copy(name, "shards")
    merge_indexes("folder.db", ["shards"], words="plain")
    for name in ("files.db", "both.db", "folder.db"):
        assert stored(name) == stored("indexes.db")
        assert verify_index(name).whole
    with Index.open("folder.db", words="plain") as index:
        assert index.stats()["words"] == "plain"
    with pytest.raises(InputError, match="was made with words='english'"):
        merge_indexes("folder.db", ["a.db"])


def test_a_file_that_is_not_whole(shards: list[str]) -> None:
    content = Path("a.parquet").read_bytes()
    Path("cut.parquet").write_bytes(content[: len(content) // 2])
    with pytest.raises(SourceError, match=r"cut\.parquet cannot be read"):
        merge_indexes("out.db", ["b.arrow", "cut.parquet"])
    assert "out.db" not in files()


def test_files_that_say_nothing_of_their_vectors() -> None:
    arrow, parquet = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    rows = arrow.table({"key": ["a"], "text": ["A."], "vector": [[1.0, 2.0]]})
    parquet.write_table(rows, "a.parquet")
    with pytest.raises(SourceError, match="does not say which model"):
        merge_indexes("out.db", ["a.parquet"])
    for name, facts, what in (
        ("no.parquet", "{}", "is not a shard that"),
        ("query.parquet", shard_facts(role="query"), "vectors of the role 'query'"),
    ):
        parquet.write_table(rows.replace_schema_metadata({"edge_embed": facts}), name)
        with pytest.raises(SourceError, match=what):
            merge_indexes("out.db", [name])


def shard_facts(**changes: Any) -> str:
    facts = {"shard": 1, "bundle": "m", "fingerprint": "f" * 32, "space": "", "engine": "onnxruntime", "dim": 2}
    return json.dumps({**facts, "dtype": "float32", "role": "document", "prompt": None, "adapter": None, **changes})


def test_shards_of_a_bulk_run() -> None:
    """Rows are documents of one passage; other columns are metadata; those made with another prompt are refused."""
    arrow, parquet = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")

    def shard(name: str, key: str, vector: list[float], **changes: Any) -> None:
        columns = {"key": [key], "text": ["Some text."], "n": [7], "vector": [vector]}
        table = arrow.table(columns).replace_schema_metadata({"edge_embed": shard_facts(**changes), "bundle": "m"})
        parquet.write_table(table, name, write_page_checksum=True)

    shard("a.parquet", "a", [1.0, 2.0])
    shard("b.parquet", "b", [3.0, 1.0], engine="native")
    merge_indexes("out.db", ["a.parquet", "b.parquet"])
    assert [row[:5] for row in stored("out.db")] == [(key, "Some text.", '{"n":7}', 0, 10) for key in "ab"]
    assert verify_index("out.db").whole
    shard("c.parquet", "c", [3.0, 1.0], prompt="passage: ")
    with pytest.raises(BundleMismatchError, match="made with the prompt 'passage: '"):
        merge_indexes("other.db", ["a.parquet", "c.parquet"])
    shard("other.parquet", "c", [3.0, 1.0], dim=3)
    with pytest.raises(SourceError, match="has vectors of 2 numbers, and says 3"):
        merge_indexes("other.db", ["other.parquet"])
    shard("key.parquet", "", [3.0, 1.0])
    with pytest.raises(SourceError, match=r"key\.parquet: row 0: key '' cannot be used"):
        merge_indexes("other.db", ["key.parquet"])
    shard("twice.parquet", "a", [9.0, 1.0])
    with pytest.raises(DuplicateKeyError):
        merge_indexes("other.db", ["a.parquet", "twice.parquet"])
    shard("nan.parquet", "n", [float("nan"), 1.0])
    with pytest.raises(SourceError, match="row 0 holds NaN"):
        merge_indexes("other.db", ["a.parquet", "nan.parquet"])
    content = bytearray(Path("b.parquet").read_bytes())
    place = content.index(np.float64(3.0).tobytes())
    content[place] ^= 1
    Path("flipped.parquet").write_bytes(content)
    with pytest.raises(SourceError, match=r"flipped\.parquet"):
        merge_indexes("other.db", ["a.parquet", "flipped.parquet"])
    assert not Path("other.db").exists()


def test_a_key_twice_in_one_file() -> None:
    """As of keys in several: an error, or the first or last row; the same row twice is one document."""
    arrow, parquet = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")

    def shard(name: str, texts: list[str]) -> None:
        columns = {"key": ["a"] * len(texts), "text": texts, "vector": [[1.0, 2.0]] * len(texts)}
        parquet.write_table(arrow.table(columns).replace_schema_metadata({"edge_embed": shard_facts()}), name)

    shard("same.parquet", ["One.", "One."])
    done = merge_indexes("same.db", ["same.parquet"])
    assert (done.stored, done.unchanged) == (1, 1)
    shard("twice.parquet", ["One.", "Two.", "One."])
    with pytest.raises(DuplicateKeyError, match=r"'a' is twice in .*twice\.parquet"):
        merge_indexes("out.db", ["twice.parquet"])
    for choice in ("first", "last"):
        done = merge_indexes(f"{choice}.db", ["twice.parquet"], on_duplicate=choice)  # type: ignore[arg-type]
        assert [row[1] for row in stored(f"{choice}.db")] == ["One."]
        assert verify_index(f"{choice}.db").whole
    shard("last.parquet", ["One.", "Two.", "Three."])
    merge_indexes("three.db", ["last.parquet"], on_duplicate="last")
    assert [row[1] for row in stored("three.db")] == ["Three."]


def test_a_run_that_has_not_ended() -> None:
    Path("run").mkdir()
    Path("run/_edge_embed.json").write_text(json.dumps({"shards": [1, 2]}))
    with pytest.raises(SourceError, match="2 shards are not finished: run `edge-embed bulk` again"):
        merge_indexes("out.db", ["run"])
    lines = [
        {"shard": n, "name": f"part-{n:06}.parquet", "rows": 1, "bytes": 5, "sha256": "", "problems": []}
        for n in (0, 1)
    ]
    Path("run/_edge_embed.done.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    with pytest.raises(SourceError, match=r"part-000000\.parquet is missing"):
        merge_indexes("out.db", ["run"])


def test_a_dump_that_lacks_something_is_refused(static: Embedder) -> None:
    """Passages are no documents; of places and pictures each row has a part. The message says what to merge."""
    pytest.importorskip("pyarrow")
    with Index.open("long.db", static) as index:
        index.add([Document("long", LONG)])
    with Index.create("placed.db", space="s", dim=DIM) as index:
        index.add_vectors([Document("a", "The cat sleeps.", {}, ((0, "p. 1"), (8, "p. 2")))], vectors(1))
    for name, what in (("long", "the texts between passages"), ("placed", "all that is known of places")):
        dump_vectors(f"{name}.db", f"{name}.parquet")
        with pytest.raises(SourceError, match=f"{what}.*: merge the index itself, as in `edge-embed merge OUT INDEX`"):
            merge_indexes("out.db", [f"{name}.parquet"])
        assert merge_indexes("out.db", [f"{name}.db"]).documents == 1
        Path("out.db").unlink()


def test_the_command() -> None:
    given("a.db", "x")
    given("b.db", "y", "x")
    assert run_json("merge", "out.db", "a.db") == {
        "documents": 1, "passages": 1, "stored": 1, "unchanged": 0, "skipped": 0, "replaced": 0, "created": True
    }  # fmt: skip
    said = run("merge", "out.db", "b.db", "--on-duplicate", "last")
    assert said.stdout == "out.db: 2 documents stored, 0 skipped, 1 replaced; 2 now, 2 passages\n"
    failed = run("merge", "out.db", "missing.db", "--json")
    assert failed.exit_code == 1
    assert json.loads(failed.stdout)["error"]["code"] == "source_missing"


def test_an_input_that_is_written_meanwhile() -> None:
    """One committed state of it is taken, also where it changes between the two readings."""
    path, stop, errors = given("a.db", *(f"a{i}" for i in range(10))), threading.Event(), []

    def write() -> None:
        try:
            with Index.open(path) as index:
                for number in range(10_000):
                    if stop.is_set():
                        return
                    batch = [Document(f"w{number}-{i}", f"Text {i} of {number}.") for i in range(10)]
                    index.add_vectors(batch, vectors(10, number))
                    index.delete([f"w{number - 1}-{i}" for i in range(10)])
        except Exception as error:  # noqa: BLE001 - shown below
            errors.append(error)

    thread = threading.Thread(target=write)
    thread.start()
    try:
        for number in range(4):
            done = merge_indexes(f"out{number}.db", [path])
            assert (done.documents, verify_index(f"out{number}.db").whole) == (done.stored, True)
            assert done.documents % 10 == 0
    finally:
        stop.set()
        thread.join()
    assert errors == []


def test_readers_that_have_it_open() -> None:
    """They find what was added, and the codes that were learned again, without being opened again."""
    given("a.db", *(f"a{i}" for i in range(200)))
    given("b.db", *(f"b{i}" for i in range(200)), seed=1)
    with Index.open("a.db", read_only=True) as reader:
        query = vectors(200, 1)[7]
        assert reader.search(vector=query, k=1)[0].key != "b7"
        merge_indexes("a.db", ["b.db"])
        assert reader.search(vector=query, k=1)[0].key == "b7"
        assert len(reader) == 400
        assert reader.search("b7", mode="text")[0].key == "b7"
