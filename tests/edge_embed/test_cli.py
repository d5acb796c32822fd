"""cli.py: every command as a user types it."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import click
import numpy as np
import pytest
from builders.bert import Checkpoints
from builders.commands import run, run_json

from edge_embed import Embedder, Index
from edge_embed.cli.main import main

T1, T2, S1 = "notes/trains.jsonl#t1", "notes/trains.jsonl#t2", "notes/ships.csv#s1"


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of notes to add, and the working directory of the test."""
    monkeypatch.chdir(tmp_path)
    notes = tmp_path / "notes"
    notes.mkdir()
    (notes / "cats.md").write_text("# Cats\nThe cat sleeps on the warm windowsill.")
    (notes / "money.txt").write_text("Compound interest makes savings grow faster every year.")
    rows = [
        {"id": "t1", "text": "The train to the airport leaves every hour.", "lang": "en", "year": 2021},
        {"id": "t2", "title": "Zug", "text": "Der Zug zum Flughafen fährt jede Stunde.", "lang": "de"},
    ]
    (notes / "trains.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (notes / "ships.csv").write_text('key,text,lang\ns1,"The ferry, they say, is late.",en\n')
    return tmp_path


def test_add_search_info_delete(folder: Path) -> None:
    """The way of a document through the commands."""
    added = run_json("add", "a.db", "notes")
    assert added == {
        "files": 4, "known": 0, "read": 5, "stored": 5, "unchanged": 0, "moved": 0, "documents": 5, "deleted": 0,
        "gone": 0, "gone_files": 0, "passed_over": {}, "notes": {}, "problems": [], "problems_left_out": 0}  # fmt: skip
    assert run_json("add", "a.db", "notes")["unchanged"] == 5
    (folder / "notes/money.txt").write_text("Inflation makes savings shrink.")
    assert run_json("add", "a.db", "notes")["stored"] == 1
    found = run_json("search", "a.db", "when does the train leave?", "-k", 1)
    assert [hit["key"] for hit in found["hits"]] == [T1]
    assert found["hits"][0]["metadata"] == {"lang": "en", "year": 2021, "source": "notes/trains.jsonl"}
    assert [hit["key"] for hit in run_json("search", "a.db", "train", "--where", "lang=de")["hits"]] == [T2]
    assert [hit["key"] for hit in run_json("search", "a.db", "train", "--where", "year=2021")["hits"]] == [T1]
    text = run("search", "a.db", "savings", "--mode", "text").stdout
    assert text.startswith("1. notes/money.txt")
    assert run_json("info", "a.db")["documents"] == 5
    assert run_json("delete", "a.db", T1, S1) == {"deleted": 2, "not_found": []}
    assert run_json("info", "a.db")["documents"] == 3


def test_search_of_nothing_says_why(folder: Path) -> None:
    """No hit is no error, and comes with a reason."""
    run("add", "a.db", "notes/cats.md")
    result = run("search", "a.db", "zebra", "--mode", "text")
    assert result.exit_code == 0
    assert "nothing found: only 0 documents" in result.stdout


def test_demo() -> None:
    """The demo finds what it should and says what it took."""
    result = run_json("demo", "--threads", 1)
    best = [answer["hits"][0]["metadata"]["topic"] for answer in result["results"]]
    assert best[0] == "lost_or_stolen_card"
    assert result["documents"] == 154
    assert result["peak_rss_mb"] > 30
    assert "peak memory" in run("demo").stdout


def test_encode(folder: Path) -> None:
    """Lines of a file or of stdin become rows of a .npy file."""
    (folder / "lines.txt").write_text("first\nsecond line\n\nfourth")
    assert run_json("encode", "lines.txt", "-o", "v.npy")["texts"] == 4
    expected = Embedder().encode(["first", "second line", "", "fourth"])
    assert np.array_equal(np.load("v.npy"), expected)
    assert run("encode", "-", "-o", "w.npy", "--truncate-dim", 8, stdin="first\r\n").exit_code == 0
    assert np.load("w.npy").shape == (1, 8)
    assert run("encode", "-o", "w.npy", stdin="").exit_code == 0
    assert np.load("w.npy").shape == (0, 384)


def test_export_and_info(folder: Path, checkpoint: Checkpoints) -> None:
    """A checkpoint becomes a bundle that other commands take; one that is there is replaced only when forced."""
    source = checkpoint()
    manifest = run_json("export", source, "tiny")
    assert manifest["architecture"]["layers"] == 2
    shown = run_json("info", "tiny")
    assert shown.pop("golden_cosine") > 0.999
    assert (shown.pop("runs_in"), shown.pop("engine_reason")) == ("onnxruntime", "")
    assert shown == manifest
    assert "4 texts reproduced here" in run("info", "tiny").stdout
    assert "receipt" in run("info", "tiny").stdout
    refused = run("export", source, "tiny")
    assert (refused.exit_code, "--force" in refused.stderr) == (1, True)
    assert run("export", source, "tiny", "--force", "--precision", "fp32").exit_code == 0
    assert run_json("add", "a.db", "notes", "--bundle", "tiny")["stored"] == 5
    assert run("search", "a.db", "cat").exit_code == 1
    assert run("search", "a.db", "cat", "--bundle", "tiny").exit_code == 0


def test_eval(folder: Path) -> None:
    """One object keyed by tier; the table has the same figures."""
    data = folder / "set"
    (data / "qrels").mkdir(parents=True)
    documents = {"d1": "cats sleep", "d2": "trains leave", "d3": "money grows", "d4": ""}
    (data / "corpus.jsonl").write_text("".join(json.dumps({"_id": k, "text": t}) + "\n" for k, t in documents.items()))
    (data / "queries.jsonl").write_text(json.dumps({"_id": "q", "text": "a sleeping cat"}) + "\n")
    (data / "qrels/test.tsv").write_text("query-id\tcorpus-id\tscore\nq\td1\t1\n")
    result = run_json("eval", data)
    assert list(result) == ["float", "int8", "binary", "binary+int8", "text", "hybrid"]
    for figures in result.values():
        assert list(figures) == ["ndcg@10", "recall@10", "mrr@10", "bytes_per_vector"]
    assert result["float"] == {"ndcg@10": 1, "recall@10": 1, "mrr@10": 1, "bytes_per_vector": 1536}
    assert result["binary+int8"]["bytes_per_vector"] == 48 + 388
    assert "binary+int8      1.0000" in run("eval", data).stdout


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["add", "a.db", "nowhere"], "nowhere does not exist"),
        (["add", "a.db", "bad.jsonl", "--strict"], "bad.jsonl, line 2: not valid JSON"),
        (["add", "a.db", "photo.jpg"], "is one of the pictures (the bundle has no image tower)"),
        (["add", "a.db", "drawing.svg"], "not a folder or a file of a known type"),
        (["add", "none/a.db", "notes"], "does not exist"),
        (["add", "notes", "notes"], "is a folder"),
        (["search", "none.db", "x"], "does not exist"),
        (["search", "notes/cats.md", "x"], "not an edge_embed index"),
        (["delete", "none.db", "x"], "does not exist"),
        (["info", "nowhere"], "does not exist"),
        (["info", "notes"], "not a bundle"),
        (["info", "notes/cats.md"], "not an edge_embed index"),
        (["eval", "notes"], "has no corpus.jsonl"),
        (["eval", "nowhere"], "is not a folder"),
        (["export", "notes", "b"], "config.json is missing"),
        (["encode", "latin.txt", "-o", "v.npy"], "not UTF-8"),
        (["encode", "notes/cats.md", "-o", "v.npy", "--role", "poet"], "expected one of"),
        (["encode", "notes/cats.md", "-o", "none/v.npy"], "none"),
        (["demo", "--bundle", "notes"], "not a bundle"),
    ],
)
def test_errors_are_one_line(folder: Path, arguments: list[str], message: str) -> None:
    """Exit 1, one line on stderr that says what was wrong, nothing on stdout, no traceback."""
    (folder / "bad.jsonl").write_text('{"text": "fine"}\n{"text": \n')
    (folder / "photo.jpg").touch()
    (folder / "drawing.svg").touch()
    (folder / "latin.txt").write_bytes(b"caf\xe9\xc3\xa9\n")
    result = run(*arguments)
    errors = [line for line in result.stderr.splitlines() if line.startswith("edge-embed:")]
    assert (result.exit_code, result.stdout) == (1, "")
    assert len(errors) == 1
    assert message in errors[0]
    assert "Traceback" not in result.stderr


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["fly"],
        ["add", "a.db"],
        ["search", "a.db"],
        ["search", "a.db", "x", "--mode", "magic"],
        ["search", "a.db", "x", "--where", "lang"],
        ["search", "a.db", "x", "--where", "=en"],
        ["search", "a.db", "x", "--where", "lang=en", "--where", "lang=de"],
        ["search", "a.db", "x", "--where", "year>1", "--where", "year>2"],
        ["search", "a.db", "x", "--where-json", "lang=en"],
        ["search", "a.db", "x", "--where-json", '{"lang": "en", "lang": "de"}'],
        ["encode", "none.txt"],
        ["demo", "--threads", "0"],
    ],
)
def test_wrong_usage_exits_with_2(folder: Path, arguments: list[str]) -> None:
    """A command line that cannot be understood."""
    assert run(*arguments).exit_code == 2


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["--where", "year>=2021"], {T1}),
        (["--where", "year>2021"], set()),
        (["--where", "year<=2021", "--where", "year>2020"], {T1}),
        (["--where", "year<2021"], set()),
        (["--where", "lang!=de"], {T1, S1, "notes/cats.md", "notes/money.txt"}),
        (["--where", "lang!=de", "--where", "lang!=en"], {"notes/cats.md", "notes/money.txt"}),
        (["--where", "lang>de", "--where", "$key>notes/t"], {T1}),
        (["--where", "$key=notes/trains.jsonl#t2"], {T2}),
        (["--where-json", '{"$or": [{"year": {"$lt": 2022}}, {"lang": "de"}]}'], {T1, T2}),
        (["--where-json", '{"$key": {"$prefix": "notes/trains"}}'], {T1, T2}),
        (["--where-json", '{"lang": {"$in": ["en"]}}', "--where", "$key!=notes/trains.jsonl#t1"], {S1}),
    ],
)
def test_where(folder: Path, arguments: list[str], expected: set[str]) -> None:
    """Signs are operators of `where`; conditions of both options must all fit."""
    run("add", "a.db", "notes")
    assert {
        hit["key"] for hit in run_json("search", "a.db", "train", "--mode", "vector", *arguments)["hits"]
    } == expected


def test_bad_search_options(folder: Path) -> None:
    """k under 1, unknown fields and an empty query are errors of the search, not of the usage."""
    run("add", "a.db", "notes")
    for arguments in (
        ["x", "-k", "0"],
        ["x", "--where", "color=red"],
        ["x", "--where", "year>null"],
        ["x", "--where-json", "[]"],
        ["  "],
    ):
        assert run("search", "a.db", *arguments).exit_code == 1


def test_bad_row_keeps_what_was_committed(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With --strict batches before the malformed line are stored; after mending the file, add goes on."""
    monkeypatch.setattr("edge_embed.files.adding.ADD_BATCH", 2)
    lines = [json.dumps({"id": f"r{i}", "text": f"row number {i}"}) for i in range(5)]
    (folder / "rows.jsonl").write_text("\n".join([*lines[:4], "oops"]))
    assert "line 5" in run("add", "a.db", "rows.jsonl", "--strict").stderr
    assert run_json("info", "a.db")["documents"] == 4
    (folder / "rows.jsonl").write_text("\n".join(lines))
    added = run_json("add", "a.db", "rows.jsonl")
    assert {name: added[name] for name in ("read", "stored", "unchanged", "documents")} == {
        "read": 5, "stored": 1, "unchanged": 4, "documents": 5}  # fmt: skip


def test_delete_names_what_is_not_there(folder: Path) -> None:
    """Known keys are deleted, unknown ones named, and the exit status says so."""
    run("add", "a.db", "notes")
    result = run("delete", "a.db", T1, "nobody")
    assert result.exit_code == 1
    assert "not in the index: nobody" in result.stderr
    assert run_json("info", "a.db")["documents"] == 4


def command(*arguments: object, **options: Any) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        [sys.executable, "-m", "edge_embed", *map(str, arguments)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        **options,
    )


@pytest.fixture
def many(folder: Path) -> Path:
    """A file that takes some seconds to add."""
    rows = [{"id": f"r{i}", "text": f"This is row number {i} of the log. " * 6} for i in range(3000)]
    (folder / "many.jsonl").write_text("\n".join(map(json.dumps, rows)))
    return folder / "many.jsonl"


def wait_for_documents(path: Path, count: int) -> None:
    until = time.monotonic() + 60
    while time.monotonic() < until:
        if path.exists() and run_json("info", path)["documents"] >= count:
            return
    raise AssertionError(f"{path} did not get {count} documents")


@pytest.mark.skipif(os.name == "nt", reason="POSIX signals")
@pytest.mark.parametrize(
    "signal_number",
    [
        signal.SIGKILL,
        pytest.param(signal.SIGINT, marks=pytest.mark.slow),
        pytest.param(signal.SIGTERM, marks=pytest.mark.slow),
    ],
)
def test_interrupted_add_goes_on(many: Path, signal_number: int) -> None:
    """Killed or interrupted in the middle: what was committed is whole, and running it again completes it."""
    with command("add", "a.db", many) as process:
        wait_for_documents(Path("a.db"), 256)
        with Index.open("a.db", Embedder(threads=1), read_only=True) as reader:
            committed = len(reader)
        process.send_signal(signal_number)
        _, errors = process.communicate(timeout=30)
        assert process.returncode != 0
        assert "Traceback" not in errors
        if signal_number == signal.SIGINT:
            assert "interrupted" in errors
    with Index.open("a.db", Embedder(threads=1)) as index:
        assert 256 <= committed <= len(index) < 3000
        assert len(index) % 256 == 0
        index.delete([f"many.jsonl#r{i}" for i in range(300, 2990)])  # so that the second run is short
    assert run("add", "a.db", many.parent / "notes").exit_code == 0
    (many.parent / "many.jsonl").write_text("\n".join(many.read_text().splitlines()[:310]))
    assert run_json("add", "a.db", many)["documents"] >= 310
    assert run("search", "a.db", "row number 305").exit_code == 0


def test_closed_pipe_is_no_error(folder: Path) -> None:
    """`edge-embed search ... | head -1` ends quietly."""
    run("add", "a.db", "notes")
    with command("search", "a.db", "cat") as process:
        assert process.stdout is not None
        process.stdout.close()
        assert process.stderr is not None
        assert "Traceback" not in process.stderr.read()


def test_second_writer_exits_at_once(folder: Path) -> None:
    """While one add runs another ends with a clear line."""
    run("add", "a.db", "notes/cats.md")
    with Index.open("a.db", Embedder(threads=1)):
        result = run("add", "a.db", "notes")
        assert result.exit_code == 1
        assert "One writer at a time" in result.stderr
        assert run("search", "a.db", "cat").exit_code == 0


def test_every_command_has_help() -> None:
    """And so has each of its options; that docs/ shows them is tested in tests/whole/test_docs.py."""
    for name, entry in main.commands.items():
        assert entry.help, name
        for parameter in entry.params:
            assert isinstance(parameter, click.Argument) or parameter.help, (name, parameter.name)
    assert run("--version").stdout.startswith("edge-embed, version")


def test_a_new_index_takes_words_and_fields(folder: Path) -> None:
    """`add` makes an index with fields that are found fast and words of any script; later they cannot be changed."""
    run("add", "z.db", "notes", "--words", "trigram", "--field", "lang", "--timeout", "1")
    assert run_json("info", "z.db")["fields"] == ["lang"]
    assert run_json("info", "z.db")["words"] == "trigram"
    assert run("add", "z.db", "notes", "--words", "plain").exit_code == 1
    assert [hit["key"] for hit in run_json("search", "z.db", "irpor", "--mode", "text")["hits"]] == [T1]


def test_search_by_a_given_vector(folder: Path) -> None:
    """Vectors in, vectors asked for, no bundle; what is no vector is refused."""
    vectors = np.random.default_rng(0).standard_normal((20, 6)).astype(np.float32)
    np.save("given.npy", vectors)
    np.save("asked.npy", vectors[7])
    assert run_json("load", "given.db", "given.npy", "--space", "mine")["stored"] == 20
    assert run_json("search", "given.db", "--vector", "asked.npy", "-k", "1")["hits"][0]["key"] == "7"
    Path("bad.npy").write_bytes(b"no array")
    assert "not a .npy file" in run("search", "given.db", "--vector", "bad.npy").stderr
    np.save("long.npy", np.ones(7))
    assert "shape" in run("search", "given.db", "--vector", "long.npy").stderr
    assert run_json("dump", "given.db", "out.npz")["rows"] == 20
    assert run_json("rebuild", "given.db")["passages"] == 20
