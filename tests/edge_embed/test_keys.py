"""naming.py and root.py: a file has one key, and no document takes the place of another file's."""

import json
import os
import shutil
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from builders.commands import run

from edge_embed import Document, Embedder, Index
from edge_embed.files.naming import Naming
from edge_embed_runtime.storage.root import Root


@pytest.fixture(autouse=True)
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder to work in; the smallest bundle embeds."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("EDGE_EMBED_BUNDLE", "static")
    return tmp_path


def write(files: dict[str, str]) -> None:
    for name, content in files.items():
        Path(name).parent.mkdir(parents=True, exist_ok=True)
        Path(name).write_text(content)


def added(*arguments: object, status: int = 0) -> Any:
    result = run("add", *arguments, "--json")
    assert result.exit_code == status, result.output
    return json.loads(result.stdout)


def keys(index: object = "a.db") -> list[str]:
    with Index.open(str(index), read_only=True) as opened:
        return list(opened.keys())


@pytest.mark.skipif(os.name == "nt", reason="symbolic links")
def test_a_file_has_one_key_however_it_is_typed(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Relative, absolute, by a link, from another folder."""
    write({"n/ferry.md": "The ferry leaves at nine.", "n/sub/t.csv": "id,text\n1,apples\n"})
    Path("link").symlink_to("n")
    added("a.db", "n")
    for given in (place / "n", "./n/../n", "link", "link/ferry.md"):
        assert added("a.db", given)["stored"] == 0
    monkeypatch.chdir(place / "n")
    again = added("../a.db", ".", "sub/../ferry.md")
    assert (again["stored"], again["unchanged"], again["documents"]) == (0, 2, 2)
    assert keys(place / "a.db") == ["n/ferry.md", "n/sub/t.csv#1"]


def test_files_outside_the_root_have_absolute_keys(place: Path) -> None:
    """The root is the folder of a new index, or what --root says."""
    write({"out/a.txt": "apples", "in/b.txt": "pears", "in/db/.keep": ""})
    added("in/db/x.db", "in", "out", "--root", "in")
    assert keys("in/db/x.db") == [(place / "out/a.txt").as_posix(), "b.txt"]
    assert json.loads(run("info", "in/db/x.db", "--json").stdout)["root"] == str(place / "in")


def test_rows_of_two_files_may_have_the_same_ids() -> None:
    """Each is known by its file and its id."""
    write(
        {"fruit.csv": "id,text\n1,apples\n2,pears\n", "tools.jsonl": '{"_id": 1, "text": "hammer"}\n{"text": "saw"}\n'}
    )
    assert added("a.db", "fruit.csv")["documents"] == 2
    assert added("a.db", "tools.jsonl")["documents"] == 4
    assert keys() == ["fruit.csv#1", "fruit.csv#2", "tools.jsonl#1", "tools.jsonl:2"]


def test_global_keys_of_another_file_are_not_replaced() -> None:
    """The row is reported with both files, in one run and in the next; the others are stored."""
    write({"a.csv": "isbn,text\n7,apples\n8,pears\n", "b.csv": "isbn,text\n7,hammer\n9,saw\n"})
    once = added("a.db", "a.csv", "b.csv", "--key", "isbn", status=1)
    assert [p["reason"] for p in once["problems"]] == ["the key '7' comes twice: here and in a.csv, line 2"]
    again = added("a.db", "b.csv", "--key", "isbn", status=1)
    assert again["problems"] == [{"path": "b.csv", "line": 2, "reason": "the key '7' belongs to a document of a.csv"}]
    assert keys() == ["7", "8", "9"]
    with Index.open("a.db", read_only=True) as index:
        assert index.get("7") == Document("7", "apples", {"source": "a.csv"})


def test_a_source_of_its_own_does_not_hide_the_file() -> None:
    """A row that names a source keeps it, and is still not replaced by another file's."""
    write({"a.jsonl": '{"k": 1, "text": "x", "source": "web"}', "b.jsonl": '{"k": 1, "text": "y", "source": "web"}'})
    added("a.db", "a.jsonl", "--key", "k")
    assert "a document of a.jsonl" in added("a.db", "b.jsonl", "--key", "k", status=1)["problems"][0]["reason"]
    write({"c.jsonl": '{"text": "x", "source": "web", "source_file": "mine"}'})
    assert "rename one" in added("a.db", "c.jsonl", status=1)["problems"][0]["reason"]


def test_documents_from_elsewhere_are_not_replaced() -> None:
    """What a program added under a key is no file's."""
    with Index.open("a.db", Embedder("static")) as index:
        index.add([Document("k", "from a program")])
    write({"a.jsonl": '{"id": "k", "text": "from a file"}'})
    assert added("a.db", "a.jsonl")["documents"] == 2
    assert "comes from no file" in added("a.db", "a.jsonl", "--key", "id", status=1)["problems"][0]["reason"]


def test_another_root_is_refused_while_the_files_lie_as_they_did(place: Path) -> None:
    """They would all be stored a second time."""
    write({"n/a.md": "apples"})
    added("a.db", "n")
    refused = run("add", "a.db", "n", "--root", "n")
    assert (refused.exit_code, "a second time" in refused.stderr) == (1, True)
    assert "is no folder" in run("add", "a.db", "n", "--root", "nowhere").stderr
    assert added("a.db", "n", "--root", place)["documents"] == 1


def test_an_index_moves_with_its_files() -> None:
    """The folder is renamed: keys stay. Copied: the user says which files it is for. Moved alone: the old files."""
    write({"p/n/a.md": "apples", "p/n/b.md": "pears"})
    added("p/a.db", "p/n")
    Path("p").rename("q")
    assert added("q/a.db", "q/n")["unchanged"] == 2
    shutil.copytree("q", "r")
    added("q/a.db", "q/n", "--root", "q")
    assert added("r/a.db", "r/n")["unchanged"] == 2  # this one still says p, which is gone
    shutil.copytree("q", "s")
    copied = run("add", "s/a.db", "s/n")
    assert (copied.exit_code, "was copied" in copied.stderr) == (1, True)
    assert added("s/a.db", "s/n", "--root", "s")["stored"] == 0
    assert added("s/a.db", "s/n")["documents"] == 2
    Path("q/a.db").rename("alone.db")
    assert added("alone.db", "q/n")["documents"] == 2


def older(path: str, documents: list[Document]) -> None:
    """An index as it was made before there were roots."""
    with Index.open(path, Embedder("static")) as index:
        index.add(documents)


def test_an_older_index_keeps_its_keys(place: Path) -> None:
    """Paths as they are typed and ids by themselves; but documents of other files are safe there too."""
    older("a.db", [Document("n/a.md", "apples", {"source": "n/a.md"}), Document("1", "pears", {"source": "f.csv"})])
    write({"n/a.md": "apples", "f.csv": "id,text\n1,plums\n", "g.csv": "id,text\n1,saw\n2,hammer\n"})
    assert added("a.db", "n", "f.csv")["stored"] == 1
    assert added("a.db", place / "f.csv")["stored"] == 1  # the same file, typed otherwise: its source is as typed
    assert "'1' belongs to a document of" in added("a.db", "g.csv", status=1)["problems"][0]["reason"]
    assert keys() == ["1", "2", "n/a.md"]
    assert json.loads(run("info", "a.db", "--json").stdout)["root"] is None
    for option in (["--sync"], ["--root", "."]):
        assert "as they were typed" in run("add", "a.db", "n", *option).stderr


def test_a_damaged_root_is_noticed() -> None:
    """It has a checksum; --root mends it."""
    write({"n/a.md": "apples"})
    added("a.db", "n")
    with closing(sqlite3.connect("a.db")) as db:
        db.execute("UPDATE meta SET value = replace(value, '/', '//') WHERE key = 'root'")
        db.commit()
    assert "its root does not fit its checksum" in run("add", "a.db", "n").stderr
    assert "its root does not fit its checksum" in run("verify", "a.db").stdout
    assert added("a.db", "n", "--root", ".")["documents"] == 1
    assert added("a.db", "n")["unchanged"] == 1


def test_root_as_text() -> None:
    """What is stored is read back; anything else is no root."""
    root = Root("/home/é", "..", free=True)
    assert Root.from_text(root.to_text()) == root
    for text in ("", "[]", "{}", "[1, 2, 3, 4]", root.to_text().replace("..", "."), "[" * 100_000):
        assert Root.from_text(text) is None


def test_keys_of_files() -> None:
    """The examples of the docstring, and folders that only begin alike."""
    naming = Naming(Root("/home/me", ""))
    for real, key in (("/home/me/notes/a.md", "notes/a.md"), ("/home/me2/a.md", "/home/me2/a.md")):
        assert naming.key(Path("typed"), real) == key
        assert naming.place(key) == real
    assert Naming(Root("/", "")).key(Path("x"), "/etc/motd.txt") == "etc/motd.txt"
    assert Naming(None).key(Path("n/../a.md"), "/x/a.md") == "a.md"
