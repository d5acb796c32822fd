"""README.md: its code is run as it stands there."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

README = (Path(__file__).parents[2] / "README.md").read_text("utf-8")


def blocks(language: str) -> list[str]:
    """Code blocks that need neither the network nor a model of the reader's own."""
    found = re.findall(rf"```{language}\n(.*?)```", README, re.DOTALL)
    return [block for block in found if "pip install" not in block]


@pytest.mark.parametrize("code", blocks("python"))
def test_python_blocks_run(code: str, tmp_path: Path) -> None:
    """The quick start works and asserts its own results, without a warning."""
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert "print(" not in code or "ferry" in done.stdout.splitlines()[0]


@pytest.mark.skipif(os.name == "nt", reason="needs a POSIX shell")
@pytest.mark.parametrize("code", blocks("sh"))
def test_shell_blocks_run(code: str, tmp_path: Path) -> None:
    """Every line of the command-line quick start succeeds, and finds what the text says."""
    environment = {**os.environ, "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"}
    done = subprocess.run(
        ["sh", "-e", "-c", code],  # noqa: S607 - the shell of the machine
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    lines = done.stdout.splitlines()
    assert lines[0] == "notes.db: 3 stored, 0 unchanged; 3 documents in all"
    assert lines[1].startswith("1. notes/ferry.md")
    assert lines[3].startswith("1. notes/cats.jsonl#c1")
    assert (tmp_path / "vectors.npy").exists()


def test_there_is_something_to_run() -> None:
    """The blocks above are found."""
    assert (len(blocks("python")), len(blocks("sh"))) == (5, 1)


def test_the_two_commands() -> None:
    """The README's two commands are the ones that .ci/run runs."""
    script = (Path(__file__).parents[2] / ".ci" / "run").read_text()
    commands = [block.strip() for block in re.findall(r"```sh\n(pip install .*?)```", README, re.DOTALL)]
    assert commands[:2] == ["pip install . && edge-embed demo", "pip install '.[test]' && pytest"]
    for command in commands[:2]:
        assert command in script
