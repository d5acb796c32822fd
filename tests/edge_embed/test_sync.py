"""add --sync: documents whose files are gone, and only those."""

import os
import shutil
from pathlib import Path
from typing import Any

import pytest
from builders.commands import added, run

from edge_embed import Index


@pytest.fixture(autouse=True)
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("EDGE_EMBED_BUNDLE", "static")
    files = {
        "n/ferry.md": "The ferry leaves at nine.",
        "n/bread.md": "Bread with rye.",
        "n/tax.txt": "Tax form.",
        "n/rows.jsonl": '{"text": "one"}\n{"text": "two"}\n{"text": "three"}\n',
        "n/t.csv": "id,text\n1,apples\n2,pears\n",
        "m/other.md": "Another folder.",
    }
    for name, content in files.items():
        Path(name).parent.mkdir(exist_ok=True)
        Path(name).write_text(content)
    assert run("add", "a.db", "n", "m").exit_code == 0
    return tmp_path


def keys() -> set[str]:
    with Index.open("a.db", read_only=True) as index:
        return set(index.keys())


ALL = {"n/ferry.md", "n/bread.md", "n/tax.txt", "n/t.csv#1", "n/t.csv#2", "m/other.md",
       *(f"n/rows.jsonl:{i}" for i in (1, 2, 3))}  # fmt: skip


def test_deleted_renamed_emptied_files_and_dropped_rows() -> None:
    """Said without --sync, deleted with it."""
    Path("n/bread.md").unlink()
    Path("n/tax.txt").rename("n/taxes.txt")
    Path("n/ferry.md").write_text("")
    Path("n/rows.jsonl").write_text('{"text": "one"}\n{"text": "two"}\n')
    Path("n/t.csv").write_text("id,text\n2,pears\n")
    told = run("add", "a.db", "n")
    assert "5 documents of 5 files that no longer exist; add --sync removes them" in told.stdout
    assert keys() == ALL | {"n/taxes.txt"}
    done = added("n", "--sync")
    assert (done["gone"], done["gone_files"], done["deleted"]) == (5, 5, 5)
    gone = {"n/bread.md", "n/tax.txt", "n/ferry.md", "n/rows.jsonl:3", "n/t.csv#1"}
    assert keys() == (ALL | {"n/taxes.txt"}) - gone
    assert added("n", "--sync")["deleted"] == 0


def test_only_under_the_paths_that_were_given() -> None:
    """A file that is gone elsewhere stays, also beside a name that begins alike."""
    shutil.rmtree("m")
    Path("n/bread.md").unlink()
    Path("n/ferry.md").unlink()
    Path("n2").mkdir()
    Path("n2/x.md").write_text("x")
    added("n2")
    Path("n2/x.md").unlink()
    Path("n2/y.md").write_text("y")
    assert added("n", "--sync")["deleted"] == 2
    assert keys() == (ALL | {"n2/x.md"}) - {"n/bread.md", "n/ferry.md"}
    assert added("n/t.csv", "--sync")["deleted"] == 0
    assert added("n/t.csv", "n2", "--sync")["deleted"] == 1


def test_a_path_that_is_missing_deletes_nothing() -> None:
    """A folder that is not there may be a disk that is not there."""
    Path("n").rename("elsewhere")
    assert added("n", "--sync", status=1)["deleted"] == 0
    assert keys() == ALL


def test_a_folder_whose_files_are_all_gone() -> None:
    """An empty folder may be a disk that is not mounted: somebody has to say that it is not."""
    for path in Path("n").iterdir():
        path.unlink()
    kept = added("n", "--sync", status=1)
    assert (kept["deleted"], kept["documents"]) == (0, 9)
    assert "--allow-empty deletes them" in kept["problems"][0]["reason"]
    assert added("n", "--sync", "--allow-empty")["deleted"] == 8
    assert keys() == {"m/other.md"}


def test_what_cannot_be_read_is_not_gone() -> None:
    """Bad rows, bad files, and files that are passed over this time."""
    Path("n/rows.jsonl").write_text('{"text": "one"}\noops\n')
    Path("n/ferry.md").write_bytes(b"caf\xe9\xc3\xa9")
    Path("n/t.csv").write_text("id,body\n1,apples\n")
    Path("n/tax.txt").unlink()
    Path("n/tax.txt").symlink_to("bread.md")
    done = added("n", "--sync", status=1)
    assert (done["deleted"], len(done["problems"])) == (0, 3)
    assert keys() == ALL


@pytest.mark.skipif(os.name == "nt" or os.geteuid() == 0, reason="root may read everything")
def test_a_folder_that_cannot_be_read_is_not_gone() -> None:
    Path("n").chmod(0)
    try:
        assert "Permission denied" in added("n", "m", "--sync", status=1)["problems"][0]["reason"]
    finally:
        Path("n").chmod(0o700)
    assert keys() == ALL


def test_a_folder_that_fails_is_not_gone(monkeypatch: pytest.MonkeyPatch) -> None:
    """The same without rights that a test may lack: listing the folder, and looking at its files, is refused."""
    listing, look = os.scandir, os.lstat

    def scandir(path: Any = ".") -> Any:
        if str(path).endswith("sub"):
            raise PermissionError(13, "Permission denied", str(path))
        return listing(path)

    def lstat(path: Any, **options: Any) -> os.stat_result:
        if "/sub/" in str(path):
            raise PermissionError(13, "Permission denied", str(path))
        return look(path, **options)

    Path("n/sub").mkdir()
    Path("n/sub/x.md").write_text("secret")
    added("n")
    monkeypatch.setattr(os, "scandir", scandir)
    monkeypatch.setattr(os, "lstat", lstat)
    done = added("n", "--sync", status=1)
    assert done["problems"] == [{"path": "n/sub", "line": None, "reason": "cannot be read: Permission denied"}]
    assert (done["deleted"], done["passed_over"]) == (0, {"unreadable folder": 1})
    assert "n/sub/x.md" in keys()


def test_a_row_may_move_to_a_new_file() -> None:
    """A key that is global, of a file that was renamed: an error that says so, or with --sync the new file's."""
    Path("k.csv").write_text("isbn,text\n7,apples\n8,pears\n")
    added("k.csv", "--key", "isbn")
    Path("k.csv").rename("l.csv")
    reasons = {problem["reason"] for problem in added("l.csv", "--key", "isbn", status=1)["problems"]}
    assert (
        "the key '7' belongs to a document of k.csv, which no longer exists (--sync deletes its documents)" in reasons
    )
    assert added("l.csv", "--key", "isbn", "--sync")["stored"] == 2
    Path("l.csv").write_text("isbn,text\n8,pears\n")
    assert added("l.csv", "--key", "isbn", "--sync")["deleted"] == 1
    assert keys() == ALL | {"8"}


def test_interrupted_before_it_deletes(monkeypatch: pytest.MonkeyPatch) -> None:
    """New documents come first: a file that was renamed is never missing under both names."""

    def stop(*_: object) -> int:
        raise KeyboardInterrupt

    Path("n/tax.txt").unlink()
    Path("n/taxes.txt").write_text("Tax form, corrected.")
    with monkeypatch.context() as patched:
        patched.setattr(Index, "delete", stop)
        assert run("add", "a.db", "n", "--sync").exit_code == 130
    assert keys() == ALL | {"n/taxes.txt"}
    assert added("n", "--sync")["deleted"] == 1
