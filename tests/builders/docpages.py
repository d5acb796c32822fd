"""Code of docs/ that needs packages of others: run by the tests that have these, in an empty folder."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from whole import pages

RUN = (None, "needs packages of others")


def run_page(name: str, folder: Path, monkeypatch: pytest.MonkeyPatch, **names: Any) -> int:
    """Run the blocks of a page that are left out elsewhere, in their order; gives their number.

    names: what the blocks find defined
    """
    monkeypatch.chdir(folder)
    page = pages.ROOT / "docs" / name
    blocks = [block for block in pages.blocks(page) if block.not_run == "needs packages of others"]
    for block in blocks:
        assert block.language == "python"
        code = compile("\n" * (block.line - 1) + block.code, name, "exec")
        exec(code, names)  # noqa: S102 - our page
    return len(blocks)


def run_whole_page(name: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Run a page with the blocks that are left out elsewhere and all others, Python and shell, in their order; gives
    what each of the shell blocks printed."""
    monkeypatch.chdir(folder)
    monkeypatch.setenv("PATH", f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")
    names, printed = dict[str, Any](), list[str]()
    for block in pages.blocks(pages.ROOT / "docs" / name):
        if block.language == "python" and block.not_run in RUN:
            exec(compile("\n" * (block.line - 1) + block.code, name, "exec"), names)  # noqa: S102 - our page
        elif block.language == "sh" and block.not_run in RUN:
            done = subprocess.run(["sh", "-e", "-c", block.code], capture_output=True, text=True, check=False)  # noqa: S607
            assert done.returncode == 0, f"{name}:{block.line}: {done.stderr}"
            printed.append(done.stdout)
    return printed
