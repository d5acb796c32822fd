"""Tests of what the command line does with the files of an index: see test_main_file.py."""

import json
import shutil
import sqlite3
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from edge_embed.cli.main import main
from edge_embed_runtime.maintenance.verify import verify_index
from edge_embed_runtime.storage.database import log_files


def run(*arguments: object) -> Any:
    return CliRunner().invoke(main, [str(argument) for argument in arguments], catch_exceptions=False)


@pytest.fixture
def source(tmp_path: Path) -> Path:
    path = tmp_path / "rows.jsonl"
    rows = [{"id": f"n{i}", "text": f"the quixotic ferry {i}"} for i in range(3)]
    path.write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    return path


def test_secure_delete(tmp_path: Path, source: Path) -> None:
    """Of `delete` and of `add`, where a document is replaced; without it the stems of the words stay in the file."""
    for options, found in ((("--secure-delete",), False), ((), True)):
        path = tmp_path / f"notes{found}.db"
        assert run("add", path, source, "--bundle", "static").exit_code == 0
        keys = [key for key in verified_keys(path) if not key.endswith("n2")]
        assert run("delete", path, *keys, *options).exit_code == 0
        changed = tmp_path / "rows.jsonl"
        before = changed.read_text()
        changed.write_text(json.dumps({"id": "n2", "text": "nothing"}) + "\n")
        assert run("add", path, changed, "--bundle", "static", *options).exit_code == 0
        changed.write_text(before)
        assert (b"quixot" in path.read_bytes()) is found
        assert verify_index(path).whole


def verified_keys(path: Path) -> list[str]:
    with sqlite3.connect(path) as db:
        keys = [key for (key,) in db.execute("SELECT key FROM doc")]
    db.close()
    return keys


def test_a_copy_without_its_log(tmp_path: Path, source: Path) -> None:
    """Every command says so in one line; `repair` takes what is there."""
    path, copy = tmp_path / "notes.db", tmp_path / "copy.db"
    assert run("add", path, source, "--bundle", "static").exit_code == 0
    reader = sqlite3.connect(path, isolation_level=None)
    reader.execute("BEGIN")
    reader.execute("SELECT count(*) FROM doc").fetchone()
    key = verified_keys(path)[0]
    assert run("delete", path, key).exit_code == 0
    shutil.copyfile(path, copy)
    reader.close()
    for arguments in (
        ("search", copy, "ferry", "--bundle", "static"),
        ("info", copy),
        ("delete", copy, key),
        ("compact", copy),
        ("backup", copy, tmp_path / "out.db"),
    ):
        done = run(*arguments)
        assert done.exit_code == 1
        assert "lacks its last commits" in done.output
        assert "edge-embed repair" in done.output
    done = run("verify", copy)
    assert done.exit_code == 1
    assert "3 documents, 3 passages, not whole" in done.output
    assert "lacks its last commits" in done.output
    done = run("repair", copy, "--bundle", "static")
    assert done.exit_code == 0
    assert "the log was missing" in done.output
    assert run("verify", copy).exit_code == 0
    assert not log_files(copy)[0].exists() or not log_files(copy)[0].stat().st_size
