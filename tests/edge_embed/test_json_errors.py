"""`--json` of commands that fail: one object on stdout, a line on stderr, and the exit status as ever."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import click
import pytest
from click.testing import CliRunner, Result

from edge_embed.cli.main import main


def run(*arguments: object) -> Result:
    return CliRunner().invoke(main, [str(argument) for argument in arguments], catch_exceptions=False)


def failed(*arguments: object, status: int = 1) -> dict[str, Any]:
    """The error of a command that fails, after looks at all that holds for each."""
    told, plain = run(*arguments, "--json"), run(*arguments)
    assert told.exit_code == plain.exit_code == status
    assert re.sub(r"\d+", "N", told.stderr) == re.sub(r"\d+", "N", plain.stderr)  # memory differs
    said: dict[str, Any] = json.loads(told.stdout)  # one object, not two
    assert isinstance(said["error"]["code"], str)
    assert said["error"]["message"] in told.stderr
    return said["error"]


@pytest.fixture
def index(tmp_path: Path) -> Path:
    (tmp_path / "n.jsonl").write_text('{"id": "a", "text": "The ferry leaves at nine."}\n')
    assert run("add", tmp_path / "n.db", tmp_path / "n.jsonl", "--bundle", "static").exit_code == 0
    return tmp_path / "n.db"


def test_files(tmp_path: Path, index: Path) -> None:
    """Errors of each command that name a path."""
    none = tmp_path / "none"
    for arguments, code in (
        (("info", none), "source_missing"),
        (("verify", none), "index_missing"),
        (("compact", tmp_path / "n.jsonl"), "index_format"),
        (("search", none, "ferry", "--mode", "text"), "index_missing"),
        (("encode", none, "-o", tmp_path / "v.npy"), "source_missing"),
        (("load", tmp_path / "x.db", none.with_suffix(".npy"), "--space", "s"), "source_missing"),
        (("tokens", "text", "--bundle", none), "bundle_format"),
        (("reembed", index, "--bundle", none), "bundle_format"),
        (("backup", index, tmp_path / "n.jsonl"), "output_exists"),
        (("dump", index, none.with_suffix(".txt")), "invalid_input"),
    ):
        error = failed(*arguments)
        assert (arguments, error["code"]) == (arguments, code)
        assert error["path"] in {str(argument) for argument in arguments}


def test_facts(index: Path) -> None:
    """Fields come through."""
    where = failed("search", index, "ferry", "--where", "yaer=2000", "--mode", "text")
    assert (where["code"], where["option"], where["field"]) == ("invalid_filter", "where", "yaer")
    if Path("/proc/self/statm").exists():
        budget = failed("search", index, "ferry", "--bundle", "static", "--max-rss", 1)
        assert (budget["code"], budget["limit_mb"]) == ("memory_budget", 1)
        assert budget["needed_mb"] > 1


def test_a_result_with_an_error(index: Path) -> None:
    """`delete` did something before it found a key missing: one object says both."""
    done = run("delete", index, "n.jsonl#a", "b", "--json")
    assert done.exit_code == 1
    said = json.loads(done.stdout)
    assert (said["deleted"], said["not_found"]) == (1, ["b"])
    assert (said["error"]["code"], said["error"]["keys"]) == ("key_not_found", ["b"])
    assert said["error"]["message"] in done.stderr


@pytest.mark.parametrize(
    "arguments",
    [
        ("search",),
        ("nosuch",),
        ("encode", "--threads", "x"),
        ("export", "a"),
        ("bench", "encode", "--lengths", "x"),
        ("add", "n.db", "a", "--words", "latin"),
    ],
)
def test_wrong_usage(arguments: tuple[str, ...]) -> None:
    """Also where click finds it, before the command begins; the exit status is 2."""
    assert failed(*arguments, status=2)["code"] == "usage"


def test_what_is_no_error_of_ours(index: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the system says, memory that is short, and Ctrl-C."""
    for raised, status, code in (
        (PermissionError(13, "Permission denied", "secret.db"), 1, "os_error"),
        (MemoryError(), 1, "out_of_memory"),
        (KeyboardInterrupt(), 130, "interrupted"),
    ):

        def fails(error: BaseException = raised) -> None:
            raise error

        monkeypatch.setattr(main.commands["info"], "callback", lambda fails=fails, **_: fails())
        error = failed("info", index, status=status)
        assert error["code"] == code
        assert error.get("path") == ("secret.db" if code == "os_error" else None)


def test_a_text_that_is_no_option() -> None:
    """What stands behind -- is not asked of us: nothing but the line on stderr."""
    done = run("tokens", "--layer", "x", "--", "--json")
    assert (done.exit_code, done.stdout) == (2, "")


def test_stdout_that_fails(index: Path) -> None:
    """A full disk behind stdout ends with one line on stderr and no traceback."""
    if not Path("/dev/full").exists():
        pytest.skip("no /dev/full here")
    with Path("/dev/full").open("wb") as full:
        done = subprocess.run(
            [sys.executable, "-m", "edge_embed", "verify", str(index), "--json"],
            stdout=full, stderr=subprocess.PIPE, text=True, check=False, env=dict(os.environ),
        )  # fmt: skip
    assert done.returncode == 1
    assert done.stderr == "edge-embed: stdout cannot be written: No space left on device\n"


def commands(group: click.Group) -> list[click.Command]:
    """All that help names."""
    found = [[c, *(commands(c) if isinstance(c, click.Group) else [])] for c in group.commands.values()]
    return [command for part in found for command in part if not command.hidden]


def test_help_says_it() -> None:
    """Every command has --json, and its help says what an error looks like."""
    for command in commands(main):
        (option,) = [p for p in command.params if p.name == "as_json"]
        assert '{"error":' in str(getattr(option, "help", ""))
