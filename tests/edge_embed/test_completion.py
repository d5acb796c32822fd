"""`edge-embed completion`: what is offered, and the scripts in the shells themselves, which type and press Tab."""

import contextlib
import os
import re
import select
import shutil
import subprocess
import sys
import time
from pathlib import Path

import click
import pytest
from builders.commands import run, run_json

from edge_embed.cli import completing, completion
from edge_embed.cli.main import COMMANDS, main

# Metavars of values that nobody can complete.
FREE = {
    "CHARACTER", "CODES", "FIELD", "FIELD=VALUE", "HOST:PORT", "JSON", "KEY", "KEY=VALUE", "N,N,", "NAME", "NAMES",
    "NAME=FOLDER", "PATTERN", "ROLE=TEXT", "TEXT", "VERSION", "text,image,",
}  # fmt: skip
START = {
    "bash": ["--norc", "--noprofile", "-i"],
    "zsh": ["-f", "-i"],
}


def offered(*words: str, capsys: pytest.CaptureFixture[str]) -> list[tuple[str, str]]:
    """Kinds and values for the last word."""
    completing.answer(main, words)
    return [(line.split("\t")[0], line.split("\t")[1]) for line in capsys.readouterr().out.splitlines()]


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["se"], [("plain", "search"), ("plain", "serve")]),
        (["search", ""], [("index", "")]),
        (["search", "a.db", "q", "--mod"], [("plain", "--mode")]),
        (["search", "a.db", "q", "--mode", "te"], [("plain", "text")]),
        (["search", "a.db", "q", "--bundle", ""], [("plain", "minilm"), ("plain", "static"), ("dir", "")]),
        (["search", "a.db", "q", "--bundle", "=", "st"], [("plain", "static"), ("dir", "st")]),
        (["search", "a.db", "q", "--bundle", "="], [("plain", "minilm"), ("plain", "static"), ("dir", "")]),
        (["search", "a.db", "q", "--bundle=st"], [("plain", "static"), ("dir", "st")]),
        (["search", "a.db", ""], []),  # the query
        (["add", "a.db", "no"], [("file", "no")]),
        (["encode", "-o", "x"], [("file", "x")]),
        (["info", "st"], [("plain", "static"), ("file", "st")]),
        (["search", "--nonsense", ""], [("index", "")]),
        ([], [("plain", name) for name in COMMANDS]),
    ],
)
def test_what_is_offered(words: list[str], expected: list[tuple[str, str]], capsys: pytest.CaptureFixture[str]) -> None:
    """Commands, options, choices, bundles, and which kind of path; nothing where nobody knows."""
    assert offered(*words, capsys=capsys) == expected


def test_every_value_is_known() -> None:
    """A new metavar is either completed or listed here as free text."""
    for name in COMMANDS:
        for parameter in main.commands[name].params:
            plain = type(parameter.type) is click.types.StringParamType
            if plain and (parameter.metavar or isinstance(parameter, click.Argument)):
                metavar = (parameter.metavar or parameter.name or "").strip("[].")
                known = completing.place_of(parameter) is not None or metavar in FREE | {"query"}
                assert known, (name, parameter.name, metavar)


def test_completing_is_light(tmp_path: Path) -> None:
    """Completing commands imports none of them, and an option its own alone; numpy never."""
    program = "import sys\nfrom edge_embed.cli.main import main\nmain()\nprint(*sys.modules)"
    for words, expected in ((["se"], set()), (["add", "--sy"], {"edge_embed.cli.add"})):
        environment = {**os.environ, "_EDGE_EMBED_COMPLETE": "bash"}
        command = [sys.executable, "-c", program, *words]
        done = subprocess.run(command, capture_output=True, text=True, check=True, env=environment)
        found = {*done.stdout.splitlines()[-1].split()}
        assert "edge_embed.cli.completing" in found
        assert found & {f"edge_embed.cli.{name}" for name in COMMANDS} == expected
        assert not found & {"numpy", "onnxruntime", "tokenizers", "sqlite3"}


def test_command() -> None:
    """The script as it is, and as JSON; another shell is wrong usage."""
    for shell, script in completion.SCRIPTS.items():
        assert run("completion", shell).stdout == script
        assert run_json("completion", shell) == {"shell": shell, "script": script}
    assert run("completion", "tcsh").exit_code == 2


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A working folder with an index, a file that is none, a folder; and `edge-embed` on the path."""
    (tmp_path / "bin").mkdir()
    (tmp_path / "work" / "papers").mkdir(parents=True)
    program = tmp_path / "bin" / "edge-embed"
    program.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m edge_embed "$@"\n')
    program.chmod(0o755)
    for name in ("my notes.db", "notes.txt", "papers/deep.db"):
        (tmp_path / "work" / name).touch()
    return tmp_path


def typed(shell: str, folder: Path, keys: str) -> str:
    """The command line after some keys, in an interactive shell that has read the file `script`."""
    import pty

    begin = {"zsh": "autoload -U compinit; compinit -u -D; bindkey -e; "}.get(shell, "")
    environment = {
        "PATH": f"{folder / 'bin'}{os.pathsep}{os.environ['PATH']}", "HOME": str(folder),
        "TERM": "dumb", "LC_ALL": "C.UTF-8",
        **{name: os.environ[name] for name in ("PYTHONPATH",) if name in os.environ},
    }  # fmt: skip
    ours, theirs = pty.openpty()
    command = [shell, *START[shell]]
    process = subprocess.Popen(
        command,
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        cwd=folder / "work",
        env=environment,
        start_new_session=True,
    )
    os.close(theirs)
    try:
        os.write(ours, f"{begin}source ../script; echo rea''dy\n".encode())
        read_until(ours, "ready\r\n")
        os.write(ours, keys.encode())
        os.write(ours, b"\x01echo 'line: \x05'\n")
        found = read_until(ours, r"\nline: [^\n]*\r\n")
        return re.findall(r"\nline: ([^\n]*?)\r", found)[-1]
    finally:
        process.kill()
        process.wait()
        os.close(ours)


def read_until(descriptor: int, pattern: str) -> str:
    """What a terminal shows until it fits a pattern."""
    shown, end = "", time.monotonic() + 60
    while not re.search(pattern, shown):
        if not select.select([descriptor], [], [], max(0.0, end - time.monotonic()))[0]:
            raise AssertionError(f"{pattern!r} did not come: {shown!r}")
        with contextlib.suppress(OSError):
            shown += os.read(descriptor, 65536).decode(errors="replace")
    return shown


KEYS = [
    ("edge-embed sea", "edge-embed search "),
    ("edge-embed search my", r"edge-embed search my\ notes.db "),
    ("edge-embed search pap", "edge-embed search papers/"),
    ("edge-embed search papers/", "edge-embed search papers/deep.db "),
    ("edge-embed search a.db q --bundle sta", "edge-embed search a.db q --bundle static "),
    ("edge-embed search a.db q --bundle=sta", "edge-embed search a.db q --bundle=static "),
    ("edge-embed add a.db notes.", "edge-embed add a.db notes.txt "),
]


@pytest.mark.slow
@pytest.mark.parametrize(("keys", "line"), KEYS)
@pytest.mark.parametrize("shell", START)
def test_shell(folder: Path, shell: str, keys: str, line: str) -> None:
    """Tab completes what is unfinished; a path with a blank is quoted."""
    if shutil.which(shell) is None:
        pytest.skip(f"{shell} is not installed")
    (folder / "script").write_text(completion.SCRIPTS[shell])
    found = typed(shell, folder, f"{keys}\t")
    # zsh takes away what it put behind a word as soon as the line goes on otherwise
    assert found == line if shell == "bash" else found.rstrip(" /") == line.rstrip(" /")


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("zsh") is None, reason="zsh is not installed")
def test_zsh_finds_the_script(folder: Path) -> None:
    """The first Tab completes where the script lies in fpath, which loads it only then."""
    (folder / "functions").mkdir()
    (folder / "functions" / "_edge-embed").write_text(completion.ZSH)
    (folder / "script").write_text("fpath=(~/functions $fpath); compinit -u -D")
    assert typed("zsh", folder, "edge-embed sea\t").rstrip() == "edge-embed search"


@pytest.mark.skipif(shutil.which("fish") is None, reason="fish is not installed")
def test_fish(folder: Path) -> None:
    """What fish itself finds for unfinished lines, with descriptions."""
    (folder / "script").write_text(completion.FISH)
    asked = ["edge-embed sea", "edge-embed search ", "edge-embed search papers/", "edge-embed info a --bun",
             "edge-embed search a q --bundle=m", "edge-embed encode a --bundle ", "edge-embed add a.db no",
             "edge-embed search ~/work/my", r"edge-embed search my\\ n", 'edge-embed add a.db "my n']  # fmt: skip
    program = ["source ../script", *(f"complete -C '{line}'" for line in asked)]
    path = f"{folder / 'bin'}{os.pathsep}{os.environ['PATH']}"
    done = subprocess.run(
        ["fish", "--no-config", "-c", "; ".join(program)],  # noqa: S607
        capture_output=True, text=True, check=True, cwd=folder / "work",
        env={**os.environ, "PATH": path, "HOME": str(folder)},
    )  # fmt: skip
    assert done.stdout.splitlines() == [
        f"search\t{COMMANDS['search']}",
        "my notes.db", "papers/", "papers/deep.db", "--bundle=minilm", "minilm", "papers/\tDirectory", "static",
        "notes.txt", "~/work/my notes.db", "my notes.db", "my notes.db",
    ]  # fmt: skip
    assert done.stderr == ""


@pytest.mark.skipif(shutil.which("bash") is None, reason="bash is not installed")
def test_bash(folder: Path) -> None:
    """The function of the script, called as bash calls it."""
    words = ["edge-embed", "search", ""]
    program = f"{completion.BASH}\ncompopt() {{ :; }}\nCOMP_WORDS=({' '.join(map(repr, words))})\nCOMP_CWORD=2\n"
    program += "_edge_embed edge-embed\nprintf '%s\\n' \"${COMPREPLY[@]}\""
    path = f"{folder / 'bin'}{os.pathsep}{os.environ['PATH']}"
    done = subprocess.run(
        ["bash", "-c", program],  # noqa: S607
        capture_output=True, text=True, check=True, cwd=folder / "work", env={**os.environ, "PATH": path},
    )  # fmt: skip
    assert (done.stdout.splitlines(), done.stderr) == (["my notes.db", "papers"], "")
