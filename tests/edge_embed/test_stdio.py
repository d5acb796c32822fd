"""The command line with standard streams of every kind: never a traceback, the right exit status, one line."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edge_embed import Document, Index

if os.name == "nt":
    pytest.skip("descriptors of POSIX", allow_module_level=True)

TEXT = "the ferry to Ærø, 東京 and \U0001f600"
ENCODINGS = ["cp1252:strict", "ascii:strict", "latin-1", "utf-16", "cp437", "utf-8", "koi8-r:surrogateescape"]
# Every command that prints, as far as it needs no model of some seconds.
COMMANDS = {
    "search": ["search", "a.db", "ferry", "--mode", "text"],
    "search, JSON": ["search", "a.db", "ferry", "--mode", "text", "--json"],
    "info": ["info", "a.db"],
    "verify": ["verify", "a.db"],
    "delete": ["delete", "a.db", "none"],
    "dump": ["dump", "a.db", "out.npz", "--force"],
    "an error": ["info", "nøwhere東"],
    "usage": ["search", "--nothing"],
    "help": ["--help"],
    "version": ["--version"],
    "tokens": ["tokens", TEXT, "--bundle", "minilm"],
    "encode": ["encode", "lines.txt", "-o", "e.npy", "--bundle", "static"],
    "add": ["add", "b.db", "lines.txt", "--bundle", "static"],
}
FAILS = {"an error": 1, "usage": 2, "delete": 1}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    with Index.create(tmp_path / "a.db", space="s", dim=2) as index:
        index.add_vectors([Document("ké東", TEXT)], np.ones((1, 2), np.float32))
    (tmp_path / "lines.txt").write_text(TEXT, "utf-8")
    return tmp_path


def start(folder: Path, command: list[str], *, to: str = "", **options: Any) -> "subprocess.CompletedProcess[bytes]":
    """`edge-embed` in a process of its own; to: redirections."""
    environment = {**os.environ, "RUST_BACKTRACE": "0", **options.pop("environment", {})}
    run = ["sh", "-c", f'exec "$@" {to}', "sh", sys.executable, "-m", "edge_embed", *command]
    done = subprocess.run(run, cwd=folder, env=environment, capture_output=True, check=False, timeout=120, **options)
    assert b"Traceback" not in done.stderr, done.stderr
    assert b"Exception ignored" not in done.stderr, done.stderr
    return done


@pytest.mark.parametrize("encoding", ENCODINGS)
@pytest.mark.slow
def test_output_of_any_encoding(folder: Path, encoding: str) -> None:
    """What it has not becomes "?"; JSON holds the same in each."""
    options: dict[str, Any] = {"environment": {"PYTHONIOENCODING": encoding, "PYTHONUTF8": "0"}}
    name = encoding.partition(":")[0]
    done = start(folder, COMMANDS["search"], **options)
    assert done.returncode == 0
    shown = done.stdout.decode(name)
    assert "the ferry to " in shown
    assert ("東京" in shown) == (name in ("utf-8", "utf-16"))
    done = start(folder, COMMANDS["search, JSON"], **options)
    (hit,) = json.loads(done.stdout.decode(name))["hits"]
    assert (hit["key"], hit["text"]) == ("ké東", TEXT)
    done = start(folder, COMMANDS["an error"], **options)
    assert done.returncode == 1
    assert "does not exist" in done.stderr.decode(name)


@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.slow
def test_strict_output(folder: Path, command: str) -> None:
    """Every command that prints, to a pipe as Windows gives it."""
    done = start(folder, COMMANDS[command], environment={"PYTHONIOENCODING": "cp1252:strict", "PYTHONUTF8": "0"})
    assert done.returncode == FAILS.get(command, 0), done.stderr
    assert done.stdout or done.stderr


@pytest.mark.parametrize("command", COMMANDS)
def test_closed_streams(folder: Path, command: str) -> None:
    """All three at once: the work is done all the same, and no file takes the place of a stream."""
    done = start(folder, COMMANDS[command], to="<&- >&- 2>&-")
    assert done.returncode == FAILS.get(command, 0)
    with Index.open(folder / "a.db", read_only=True) as index:
        assert index.get("ké東") is not None


@pytest.mark.parametrize("command", COMMANDS)
def test_full_output(folder: Path, command: str) -> None:
    """A full disk: one line on stderr, exit status 1."""
    if not Path("/dev/full").exists():
        pytest.skip("needs /dev/full")
    done = start(folder, COMMANDS[command], to="> /dev/full")
    if command in ("an error", "usage"):  # they print nothing there
        assert done.returncode == FAILS[command]
        return
    assert done.returncode == 1
    assert b"No space left" in done.stderr
    assert done.stderr.count(b"\n") == 1


@pytest.mark.parametrize("command", COMMANDS)
def test_broken_pipe(folder: Path, command: str) -> None:
    """Nobody reads, as after `| head`: no word about it, and the exit status is that of the work."""
    reader, writer = os.pipe()
    os.close(reader)
    environment = {**os.environ, "RUST_BACKTRACE": "0"}
    run = [sys.executable, "-m", "edge_embed", *COMMANDS[command]]
    done = subprocess.run(
        run, cwd=folder, env=environment, stdout=writer, stderr=subprocess.PIPE, check=False, timeout=120
    )
    os.close(writer)
    assert done.returncode == FAILS.get(command, 0), done.stderr
    assert b"ipe" not in done.stderr
    assert b"Traceback" not in done.stderr
    assert done.stderr == b"" or command in FAILS


@pytest.mark.parametrize(
    ("to", "why"),
    [
        ("<&-", "stdin is closed"),
        ("< latin.txt", "not UTF-8 text (invalid"),
    ],
)
def test_lines_from_stdin(folder: Path, to: str, why: str) -> None:
    """Where stdin gives no text, one line says so."""
    (folder / "latin.txt").write_bytes(b"good\nbad \xe9 \xff\n")
    done = start(folder, ["encode", "-", "-o", "w.npy", "--bundle", "static"], to=to)
    assert done.returncode == 1
    assert done.stderr.count(b"\n") == 1
    assert why.encode() in done.stderr
    assert not (folder / "w.npy").exists()


def test_lines_in_utf8_whatever_the_locale(folder: Path) -> None:
    """stdin is UTF-8, also where the locale is C."""
    done = start(
        folder,
        ["encode", "-", "-o", "w.npy", "--bundle", "static", "--json"],
        input=TEXT.encode() * 2,
        environment={"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONIOENCODING": "ascii", "NO_COLOR": "1", "COLUMNS": "1"},
    )
    assert json.loads(done.stdout)["texts"] == 1
    assert np.load(folder / "w.npy").shape[0] == 1
