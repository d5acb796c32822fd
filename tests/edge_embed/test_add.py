"""adding.py and `edge-embed add`: what cannot be read is said at the end, what is there unchanged costs little."""

import errno
import json
import os
import socket
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path
from typing import Any, BinaryIO

import pytest
from builders.commands import added, run
from click.testing import CliRunner

from edge_embed import Embedder, Index
from edge_embed.cli.main import main
from edge_embed.files import documents as readers
from edge_embed.files.adding import add_files
from edge_embed.files.finding import find
from edge_embed.files.opening import Opening
from edge_embed.files.problems import Problem
from edge_embed.files.seen import Place, Seen
from edge_embed.files.task import Added, AddTask
from edge_embed_runtime.errors import SourceError

NO_PICTURES = "is one of the pictures (the bundle has no image tower)"


@pytest.fixture(autouse=True)
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("EDGE_EMBED_BUNDLE", "static")
    return tmp_path


def write(files: dict[str, str | bytes]) -> None:
    for name, content in files.items():
        Path(name).parent.mkdir(parents=True, exist_ok=True)
        Path(name).write_bytes(content if isinstance(content, bytes) else content.encode())


def keys() -> list[str]:
    with Index.open("a.db", read_only=True) as index:
        return list(index.keys())


def test_one_bad_file_stops_nothing() -> None:
    """It is listed on stderr, and the exit status is 1; --strict stops there."""
    write({"n/a.md": "The ferry leaves at nine.", "n/b.txt": b"caf\xe9\xc3\xa9\n", "n/c.md": "The cat sleeps."})
    result = run("add", "a.db", "n")
    assert (result.exit_code, result.stdout) == (1, "a.db: 2 stored, 0 unchanged; 2 documents in all\n")
    assert result.stderr.startswith("edge-embed: n/b.txt, line 1: not UTF-8 text")
    assert keys() == ["n/a.md", "n/c.md"]
    assert run("add", "b.db", "n", "--strict").exit_code == 1
    assert not Path("b.db").exists()


BAD_ROWS = {
    '{"id": 1, "text": null}': "'text' and 'title' must be strings",
    '{"id": 2, "text": "\\ud800"}': "lone surrogate",
    '{"id": 3, "text": "a", "n": NaN}': "metadata cannot be stored as JSON",
    '{"id": 4, "text": "a", "title": 5}': "'text' and 'title' must be strings",
    '["a"]': "expected an object, got list",
    '{"id": 0, "text": "a"}': "the key 'n.jsonl#0' comes twice: here and in n.jsonl, line 1",
    '{"id": 5, "body": "a"}': "no field 'text'; fields: id, body; --text says which holds the text",
    '{"id": {"a": 1}, "text": "a"}': "the key 'id' is dict, expected a string",
    '{"id": 6, "text": "a"': "not valid JSON",
    '{"id": "' + "k" * 3000 + '", "text": "a"}': "cannot be used: expected 1 to 2048 characters",
    '{"id": 7, "text": "a", "n": ' + "[" * 70 + "]" * 70 + "}": "nested more than 64 deep",
    '{"id": 8, "text": "a", "n": ' + "1" * 5000 + "}": "not valid JSON",
}


def test_bad_rows_stop_nothing() -> None:
    """Each with its line and what is wrong with it; the rows between them are stored."""
    rows = ['{"id": 0, "text": "good"}']
    for i, bad in enumerate(BAD_ROWS):
        rows += [bad, f'{{"id": "good{i}", "text": "good too"}}']
    write({"n.jsonl": "\n".join(rows)})
    result = added("n.jsonl", status=1)
    assert result["stored"] == result["documents"] == len(BAD_ROWS) + 1
    assert [problem["line"] for problem in result["problems"]] == list(range(2, 2 * len(BAD_ROWS) + 1, 2))
    for problem, reason in zip(result["problems"], BAD_ROWS.values(), strict=True):
        assert reason in problem["reason"]
    assert added("n.jsonl", status=1)["stored"] == 0


def test_many_problems_are_counted() -> None:
    """The list for people is cut."""
    write({"n.jsonl": "oops\n" * 30 + '{"text": "good"}'})
    lines = run("add", "a.db", "n.jsonl").stderr.splitlines()
    assert (len(lines), lines[-1]) == (21, "edge-embed: 30 problems in all; --json lists them")
    assert len(added("n.jsonl", status=1)["problems"]) == 30


def test_paths_that_are_no_files() -> None:
    """They are listed beside what is stored; alone, nothing is made."""
    write({"a.md": "text", "photo.jpg": "x", "empty/x.exe": "x"})
    result = added("a.md", "photo.jpg", "nowhere", "empty", status=1)
    reasons = [(problem["path"], problem["reason"].split(";")[0]) for problem in result["problems"]]
    assert reasons[:2] == [("photo.jpg", NO_PICTURES), ("nowhere", "does not exist")]
    assert reasons[2][0] == "empty"
    assert result["documents"] == 1
    assert run("add", "b.db", "photo.jpg", "nowhere").exit_code == 1
    assert not Path("b.db").exists()


@pytest.mark.skipif(os.name == "nt", reason="links, pipes and sockets")
def test_what_is_passed_over_is_counted(place: Path) -> None:
    """By reason: types, links, hidden files, empty ones, and what is no file."""
    write({f"m/f.{x}": f"text of {x}" for x in ("txt", "markdown", "text", "orf", "htmk", "LOG", "log")})
    write({"m/Makefile": "x", "m/.hidden.md": "x", "m/.git/x.md": "x", "m/e.md": "\n", "real/r.md": "r", "out.md": "o"})
    Path("m/alias").symlink_to("../real")
    Path("m/out.md").symlink_to("../out.md")
    Path("m/broken.md").symlink_to("nowhere")
    os.mkfifo("m/pipe.txt")
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind("m/socket.txt")
        result = added("m")
    assert result["passed_over"] == {
        "hidden": 2, "link": 3, "not a regular file": 2, "empty": 1, "unknown type .orf": 1, "unknown type .htmk": 1,
        "unknown type .log": 2, "unknown type without an ending": 1}  # fmt: skip
    assert keys() == ["m/f.markdown", "m/f.text", "m/f.txt"]
    assert "skipped: 3 link, 2 hidden" in run("add", "a.db", "m").stdout
    write({"links/.hidden": ""})
    Path("links/a.md").symlink_to("../out.md")
    assert "skipped: 1 hidden, 1 link" in run("add", "b.db", "links").stdout
    followed = added("m", "--follow-links")
    assert (followed["stored"], followed["passed_over"]["link to nothing"]) == (2, 1)
    assert keys() == ["m/f.markdown", "m/f.text", "m/f.txt", "out.md", "real/r.md"]


@pytest.mark.skipif(os.name == "nt", reason="symbolic links")
def test_links_that_lead_round(place: Path) -> None:
    """Each folder is read once; a link that was given by its name is followed."""
    write({"d/a.md": "a", "d/sub/b.md": "b"})
    Path("d/sub/up").symlink_to("..")
    Path("d/again").symlink_to("sub")
    Path("given").symlink_to("d")
    Path("loop").symlink_to("loop")
    assert added("given", "--follow-links")["documents"] == 2
    assert keys() == ["d/a.md", "d/sub/b.md"]
    assert added("given/a.md", "given")["stored"] == 0
    assert "cannot be read" in added("loop", status=1)["problems"][0]["reason"]


def test_folders_hundreds_deep(place: Path) -> None:
    """Nothing recurses; pytest, which removes them, does."""
    for _ in range(300):
        Path("d").mkdir()
        os.chdir("d")
    Path("a.md").write_text("a")
    os.chdir(place)
    result = CliRunner().invoke(main, ["add", "a.db", "d", "--json"])
    assert json.loads(result.stdout)["documents"] == 1


@pytest.mark.skipif(sys.platform in ("win32", "darwin"), reason="names are Unicode there")
def test_names_that_are_not_utf8(place: Path) -> None:
    """The file is listed, in a form that can be printed."""
    write({"n/a.md": "text"})
    (place / "n" / os.fsdecode(b"b\xe9.md")).write_text("x")
    result = added("n", status=1)
    assert result["problems"] == [
        {"path": "n/b\\udce9.md", "line": None, "reason": "cannot be stored: the file's name is not UTF-8; rename it"}
    ]
    assert result["documents"] == 1


def test_a_file_that_cannot_be_opened(monkeypatch: pytest.MonkeyPatch) -> None:
    """One without the right, one that has gone since it was found, one that fails in the middle."""
    write({f"n/{name}.txt": "good" for name in ("a", "denied", "gone", "failing", "z")})
    really = readers.open_regular

    class Failing:
        def __init__(self, file: BinaryIO) -> None:
            self._file = file

        def __enter__(self) -> "Failing":
            return self

        def __exit__(self, *_: object) -> None:
            self._file.close()

        def fileno(self) -> int:
            return self._file.fileno()

        def read(self, _: int) -> bytes:
            raise OSError(errno.EIO, "Input/output error")

    def open_regular(path: Path) -> Any:
        if path.stem == "denied":
            raise SourceError(f"{path} cannot be read: Permission denied")
        if path.stem == "gone":
            path.unlink()
        file = really(path)
        return Failing(file) if path.stem == "failing" else file

    monkeypatch.setattr(readers, "open_regular", open_regular)
    result = added("n", status=1)
    assert {problem["path"]: problem["reason"] for problem in result["problems"]} == {
        "n/denied.txt": "cannot be read: Permission denied",
        "n/failing.txt": "cannot be read: Input/output error",
    }
    assert result["passed_over"] == {"gone since it was listed": 1}
    assert keys() == ["n/a.txt", "n/z.txt"]


def test_a_file_that_changes_while_it_is_read() -> None:
    """What was read is stored, and said to be of two states."""
    write({"n.jsonl": '{"text": "one"}\n{"text": "two"}\n'})
    problems: list[Problem] = []
    documents = readers.read_documents(Path("n.jsonl"), report=problems.append)
    assert next(documents).text == "one"
    with Path("n.jsonl").open("a") as file:
        file.write('{"text": "three"}\n')
    assert [document.text for document in documents] == ["two", "three"]
    assert [str(problem) for problem in problems] == ["n.jsonl changed while it was read; run again"]


def test_unchanged_files_need_no_model() -> None:
    """Neither an embedder is made nor onnxruntime imported, and no lock taken: another process may be writing."""
    write({"n/a.md": "The ferry leaves at nine.", "n/t.csv": "id,text\n1,apples\n"})
    added("n")
    program = (
        "import sys; from edge_embed.cli.main import main\n"
        "try: main(['add', 'a.db', 'n', '--bundle', 'nowhere'])\n"
        "finally: print('onnxruntime' in sys.modules)"
    )
    with Index.open("a.db", Embedder("static")):
        done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines() == ["a.db: 0 stored, 2 unchanged; 2 documents in all", "False"]
    write({"n/b.md": "new"})
    assert "nowhere" in run("add", "a.db", "n", "--bundle", "nowhere").stderr
    assert "was made with" in run("add", "a.db", "n/a.md", "--words", "trigram").stderr


def test_only_the_bundle_of_the_index_will_do() -> None:
    """That is seen as soon as there is something to store."""
    write({"a.md": "one", "b.md": "two"})
    added("a.md")
    assert added("a.md", "--bundle", "minilm")["unchanged"] == 1
    assert "holds vectors of the bundle" in run("add", "a.db", "b.md", "--bundle", "minilm").stderr


def test_damaged_rows_are_embedded_again() -> None:
    """Where a file is read, unchanged is what is whole: of a damaged passage the document is stored anew."""
    write({"a.md": "one", "b.md": "two"})
    added("a.md", "b.md")
    with closing(sqlite3.connect("a.db")) as db:
        db.execute("UPDATE vec SET code = zeroblob(length(code)) WHERE id = 1")
        db.commit()
    assert added("a.md", "b.md")["known"] == 2
    assert added("a.md", "b.md", "--read-all")["stored"] == 1
    assert added("a.md", "b.md", "--read-all")["unchanged"] == 2


def test_an_error_keeps_the_list_of_problems(monkeypatch: pytest.MonkeyPatch) -> None:
    """What was found before the index failed is still listed."""

    def fail(*_: object, **__: object) -> int:
        raise SourceError("no more")

    write({"a.jsonl": 'oops\n{"text": "x"}\n'})
    monkeypatch.setattr(Index, "upsert", fail)
    lines = run("add", "a.db", "a.jsonl").stderr.splitlines()
    assert [line[:30] for line in lines] == ["edge-embed: a.jsonl, line 1: n", "edge-embed: no more"]


def test_add_files_in_python() -> None:
    """The same without the command line."""
    write({"a.md": "one"})
    result = Added()
    add_files(AddTask(("a.md",)), Opening("a.db", lambda: {"embedder": Embedder("static")}, {}), result)
    assert (result.stored, result.documents, result.bytes) == (1, 1, 3)


def test_the_index_itself_is_not_counted() -> None:
    """Nor are its log and its lock."""
    write({"a.md": "one", "b.db": "another file"})
    added(".")
    with Index.open("a.db", Embedder("static")):
        assert added(".")["passed_over"] == {"unknown type .db": 1}


def test_find_counts_types_up_to_a_limit() -> None:
    """A folder of a million types makes no million lines."""
    write({f"n/f.x{i}": "x" for i in range(200)})
    counted = find(["n"], lambda _: None).passed_over
    assert (len(counted), counted["other unknown types"], sum(counted.values())) == (51, 150, 200)


def test_seen() -> None:
    """Where a key was first met, and which keys were not."""
    seen = Seen()
    assert seen.add("a", Place(0, 1)) is None
    assert seen.add("a", Place(3, None)) == (0, 1)
    assert seen.missing(["a", "b", "\n"]) == ["b", "\n"]
    seen.close()


@pytest.mark.parametrize("delimiter", ["", ";;", "\\x"])
def test_wrong_options(delimiter: str) -> None:
    assert run("add", "a.db", ".", "--delimiter", delimiter).exit_code == 2
    assert "no encoding that is known" in run("add", "a.db", ".", "--encoding", "klingon").stderr


def test_the_line_of_what_was_skipped_stays_short() -> None:
    """After eight reasons the others are counted together; --json has all."""
    write({"m/a.md": "the cat"} | {f"m/a.x{number:02}": "" for number in range(11)})
    line = next(line for line in run("add", "a.db", "m").stdout.splitlines() if line.startswith("skipped"))
    assert line.endswith("1 unknown type .x07, 3 for other reasons")
    assert added("m")["passed_over"]["unknown type .x10"] == 1
